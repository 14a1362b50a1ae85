"""From files to ``Batch``: packing, masking, pairs, images. The batch of a step is a pure function of (seed, step)."""
