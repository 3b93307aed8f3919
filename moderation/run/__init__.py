"""What a run does before and beside scoring: its inputs, listing, plan, shards and their staging."""
