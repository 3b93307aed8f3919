"""How the demo's model and images were made: concepts, renderer, training, evaluation, demo images.

The only place of the demo that may import torch or open_clip; nothing outside this folder imports it.
"""
