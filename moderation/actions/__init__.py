"""Acting on decisions: what effective decisions lead to, delivered through an outbox in storage. Nothing here decides."""
