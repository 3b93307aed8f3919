"""Images drawn by lot for a person to label, with weights that make the labels speak for all images.

Nothing here fetches an image, and nothing but prompts that are new needs the model.
"""
