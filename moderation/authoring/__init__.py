"""What policy authors use before a run: checking a policy, and explaining its decision about one image. No Ray."""
