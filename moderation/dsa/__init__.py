"""Statements of reasons for the EU's DSA Transparency Database, from effective decisions, and totals for the yearly report."""
