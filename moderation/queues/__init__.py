"""Which images people review, and in what order: the file `queues.yaml`, audits by hash, and pages of a queue."""
