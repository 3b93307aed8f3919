"""What another policy would have decided about everything that is stored: from embeddings, no image is looked at.

Neither ray, prefect nor great_expectations come in here; torch only where a prompt is new.
"""
