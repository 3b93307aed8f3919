"""Drawing ordinary images from published results: the background that exemplars are compared with."""
