"""Settings of the C library's memory allocator for a training loop."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_SETTINGS = {"GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"}
_MOST_KEPT = 1 << 30
_LARGEST_ON_THE_HEAP = 32 << 20  # glibc takes no more


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB of what it frees.

    A step frees activations and gradients, and the next step needs that memory again. In between, glibc may return it
    to the kernel, which then has to clear each page. This depends on the blocks above it on the heap: steps of some
    runs had thousands of page faults, steps of others none. Other C libraries are left as they are, and so is an
    allocator with settings of the user's.
    """
    if platform.libc_ver()[0] == "glibc" and not os.environ.keys() & _SETTINGS:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_THE_HEAP)
        libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)
