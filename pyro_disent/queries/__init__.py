"""What is asked of a model, with a tensor, a distribution or a table as the answer: see each module's function."""
