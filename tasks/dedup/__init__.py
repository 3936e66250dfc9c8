"""The heart: which pictures are the same. Pure, no I/O."""
