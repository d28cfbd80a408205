"""The C library's memory allocator, told what a training loop needs of it."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_SETTINGS = {"GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"}
_KEPT = 1 << 30
_LARGEST_ON_THE_HEAP = 32 << 20  # glibc takes no more


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB of what it frees.

    A step frees what the next one needs again: activations and gradients. glibc may hand them back to the kernel in
    between, which then gives them page by page, cleared. It depends on what lies above them on the heap: the steps of
    some runs had thousands of page faults, those of others none. Other C libraries are left as they are, and so is
    an allocator that the user has told something.
    """
    if platform.libc_ver()[0] == "glibc" and not os.environ.keys() & _SETTINGS:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_THE_HEAP)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
