"""Memory of a process that renders on a CPU."""

from __future__ import annotations

import ctypes
import sys

# Of mallopt, malloc.h of the GNU C library: the option's number, and the value that it gets.
_MOST_BYTES = {
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD: blocks up to its highest value come from the heap,
    -2: 256 * 2**20,  # M_TOP_PAD: which grows by this much at once
    -1: 2**30,  # M_TRIM_THRESHOLD: and is given back when as much as this lies free
}


def keep_freed_memory() -> bool:
    """Lets the C allocator keep freed memory, 1 GiB at most, for the next tensor of that size.

    A render allocates the same sizes hundreds of times. By default much of that goes back to the kernel
    and is paged in again, filled with zeros, up to 3,500 pages for a picture of tabletop: 4 % of its time on
    a CPU (`python -m benchmarks.memory`). It holds for the whole process, so programs call it, libraries do
    not. Returns whether the allocator took it: only the GNU C library has such options.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) for option, value in _MOST_BYTES.items())
