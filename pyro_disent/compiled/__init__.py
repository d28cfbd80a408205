"""What stands in the place of torch's own for speed, each with what it is checked against.

`step`: loss and gradient in one graph, traced through Pyro, in the place of ``torch.compile`` on a Pyro program, which
breaks at every effect handler. Checked against the eager step, value and gradient, for every method and data set
(`tests/test_compiled.py`).

`cpu`: what that graph computes in its own way on a CPU: a tanh, three times as fast as the vectorized library's, and
convolutions with channels innermost. Checked against float64, and the graph against eager (`tests/test_compiled.py`).

`adam`: Adam without torch's Python overhead. Checked bit by bit against ``torch.optim.Adam(fused=True)``
(`tests/test_optimizer.py`).

`allocator`: freed memory that the process keeps, as each step would else ask the system for the same pages again.
Checked by what a process's memory does (`tests/test_allocator.py`).

How much each is worth is measured by `benchmarks/step.py` and `benchmarks/threads.py`.
"""
