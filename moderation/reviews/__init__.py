"""Human decisions: the record, its table, writing and reading it, and which review counts. No command, no page, no SQL views here."""
