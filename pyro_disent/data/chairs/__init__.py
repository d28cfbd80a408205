"""The 3D chairs: the real set where its files are at hand, else drawn ones."""
