"""From objects to pictures: listing, sharding and decoding. No torch, no ray."""
