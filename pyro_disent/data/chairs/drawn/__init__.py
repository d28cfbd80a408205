"""A generator of chairs with ground truth, for any use: NumPy only, the same pixels for the same seed.

One chair from all 62 views, and 2 + 1 + 1 chairs as arrays:

>>> from pyro_disent.data.chairs.drawn.family import Counts, render_chair, render_family
>>> chair = render_chair(seed=0, split="train", index=0, size=16)
>>> chair.images.shape, chair.zoom.shape
((62, 1, 16, 16), (62,))
>>> arrays = render_family(seed=0, counts=Counts(2, 1, 1), size=16)
>>> arrays["images"].shape, arrays["factors/azimuth"].shape
((248, 1, 16, 16), (248,))
>>> bool((arrays["images"][:62] == chair.images).all())
True
"""
