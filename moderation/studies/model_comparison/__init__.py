"""Two models on the same images under one policy: what moving to other weights would change.

Only scores are kept in memory. `records`, `agreement`, `refitting`, `rules` and `words` are pure; `scoring` alone loads torch.
"""
