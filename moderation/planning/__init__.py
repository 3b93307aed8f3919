"""From the user's input to the plan of a run: its inputs, the listing of its objects, and their shards. No Ray."""
