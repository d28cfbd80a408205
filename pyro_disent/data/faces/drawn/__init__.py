"""A generator of faces whose causes are CelebA's 40 attributes, for any use: NumPy and Pillow only, the same pixels
for the same seed.

Three faces, and one without glasses and with them:

>>> import numpy as np
>>> from pyro_disent.data.faces.drawn.design import sample_nuisances
>>> from pyro_disent.data.faces.drawn.faces import ATTRIBUTES, draw_face, render_faces
>>> images, attributes = render_faces(seed=0, start=0, count=3, size=32)
>>> images.shape, attributes.shape
((3, 3, 32, 32), (3, 40))
>>> nuisances = sample_nuisances(np.random.default_rng(0))
>>> bare = attributes[0].copy()
>>> bare[ATTRIBUTES.index("Eyeglasses")] = False
>>> glasses = bare.copy()
>>> glasses[ATTRIBUTES.index("Eyeglasses")] = True
>>> bool((draw_face(bare, nuisances) != draw_face(glasses, nuisances)).any())
True
"""
