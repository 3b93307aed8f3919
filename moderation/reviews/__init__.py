"""Human decisions: their records and tables, writing and reading them, and which review counts. No commands, no pages."""
