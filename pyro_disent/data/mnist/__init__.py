"""MNIST: its files, and the two sets that are made of its digits."""
