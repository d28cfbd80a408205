"""Malformed input, made from seeds: what no file, folder or command line may do to the program."""
