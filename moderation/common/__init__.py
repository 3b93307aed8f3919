"""Small tools that every other package may use. Nothing here knows of images, policies or results."""
