"""CelebA: the real set where its files are at hand, else drawn faces."""
