"""Faster replacements for parts of torch, each with the reference it is checked against.

`step`: loss and gradient in one graph, traced through Pyro. It replaces ``torch.compile`` on a Pyro program, which
breaks at every effect handler. Checked against the eager step, value and gradient, for every method and data set
(`tests/test_compiled.py`).

`cpu`: operations of that graph on a CPU: a tanh, three times as fast as the vectorized library's, and convolutions with
channels innermost. Checked against float64, and the graph against eager (`tests/test_compiled.py`).

`adam`: Adam without torch's Python overhead. Checked bit by bit against ``torch.optim.Adam(fused=True)``
(`tests/test_optimizer.py`).

`allocator`: keeps freed memory in the process; otherwise each step asks the system for the same pages again. Checked by
the page faults of a process (`tests/test_allocator.py`).

The gain of each is measured by `benchmarks/step.py` and `benchmarks/threads.py`.
"""
