"""Several machines at once: are the disks what everyone believes, where do weights lie, and bring them together.

`orz_ckpt.node` says what one machine finds out about itself. Here are the ways to reach machines (`fleet`), and what
follows from their answers. `ray_fleet` is the only module of this package that imports Ray.
"""
