"""What users bring: a folder of images, with a table or without, or arrays."""
