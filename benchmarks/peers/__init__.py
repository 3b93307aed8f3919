"""What people use today for the same work, written as its documentation does it, beside the pipeline. Measurements only."""
