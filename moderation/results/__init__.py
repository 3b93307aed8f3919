"""Results: table schemas, shard files, the ledger of what is done, quality checks and publishing."""
