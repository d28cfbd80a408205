"""Image files as pixels, one at a time or many kept in the cache."""
