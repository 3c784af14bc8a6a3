"""Memory: how much is used, what a program tells the allocator of the CPU, which errors say it ran out."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

# torch has an error of its own for a shortage on CUDA alone. Its allocators for the CPU
# (c10/core/impl/alloc_cpu.cpp) and for Apple's GPUs (aten/src/ATen/mps/MPSAllocator.h) raise a plain
# RuntimeError, which only these words tell apart.
_SHORTAGES = ("DefaultCPUAllocator: ", "MPS backend out of memory")

# Of mallopt, malloc.h of the GNU C library: the option's number, and the value that it gets.
_OPTIONS = {
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD: blocks up to its highest value come from the heap,
    -2: 256 * 2**20,  # M_TOP_PAD: which grows by this much at once
    -1: 2**30,  # M_TRIM_THRESHOLD: and is given back when as much as this lies free
    -8: 2,  # M_ARENA_MAX: heaps for all threads: else each of eight a core keeps what it rendered with
}


def bytes_in_use(device: str = "cpu") -> int:
    """What torch has allocated on that CUDA device, or what of this process is resident in main memory.

    0 where it is not known.
    """
    if device.startswith("cuda"):
        torch = sys.modules.get("torch")  # not imported for this: it takes seconds
        used = torch is not None and torch.cuda.is_initialized()
        return int(torch.cuda.memory_allocated(device)) if used and torch is not None else 0
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    import resource  # where there is /proc

    return pages * resource.getpagesize()


def free_bytes(device: str = "cpu") -> int:
    """What is free on that CUDA device, or of this machine's main memory; 0 where it is not known."""
    if device.startswith("cuda"):
        torch = sys.modules.get("torch")
        used = torch is not None and torch.cuda.is_initialized()
        return int(torch.cuda.mem_get_info(device)[0]) if used and torch is not None else 0
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0


def give_back_memory() -> None:
    """Collects what nobody refers to, and gives freed memory back to the GPU and the machine."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim_heaps()


def trim_heaps() -> None:
    """Gives the free pages of the C allocator's heaps back to the machine, also those between used ones."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU C library's
        if trim is not None:
            trim(0)


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
    return mallopt is not None and all(mallopt(option, value) for option, value in _OPTIONS.items())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of a GPU ran out."""
    torch = sys.modules.get("torch")  # not imported for this: whoever met its error has it
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SHORTAGES)
