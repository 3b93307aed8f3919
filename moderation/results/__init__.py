"""Results in storage: table schemas, shard files, manifests, and publishing, releasing, discarding and pruning runs."""
