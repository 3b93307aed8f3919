"""From what a user names to the plan of a run: its inputs, the listing of its objects, and their shards. No Ray."""
