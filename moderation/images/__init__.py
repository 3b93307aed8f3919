"""From bytes to pictures: recognising, limits, repair, decoding, colours, PDQ. No torch, no ray, no storage."""
