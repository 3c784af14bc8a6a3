"""Memory: what a program tells the allocator of the CPU, and which errors say that there is none left."""

from __future__ import annotations

import ctypes
import sys

# torch has an error of its own for a shortage on CUDA alone. Its allocators for the CPU
# (c10/core/impl/alloc_cpu.cpp) and for Apple's GPUs (aten/src/ATen/mps/MPSAllocator.h) raise a plain
# RuntimeError, which only these words tell apart.
_SHORTAGES = ("DefaultCPUAllocator: ", "MPS backend out of memory")

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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of a GPU ran out."""
    torch = sys.modules.get("torch")  # not imported for this: whoever met its error has it
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SHORTAGES)
