"""What a step frees serves the next one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from pyro_disent.compiled.allocator import _SETTINGS

STEPS = """
import resource
import torch
from pyro_disent.compiled.allocator import keep_freed_memory

keep_freed_memory()

def step():
    tensors = [torch.ones(400_000) for _ in range(16)]  # 1.6 MB each

for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
@pytest.mark.parametrize("process", range(3))
def test_a_step_has_no_page_faults(process: int) -> None:
    """Without it, two processes of three have thousands: where their heaps end is chance."""
    environment = {name: value for name, value in os.environ.items() if name not in _SETTINGS}
    command = [sys.executable, "-c", STEPS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) < 100
