"""Threads of OpenMP in a process that shares its processor with others."""

from __future__ import annotations

import os
import sys

# A thread of OpenMP that has done its part waits for the next one in a loop, so that it starts sooner. Beside
# other busy processes that loop takes the processor from the very threads that it waits for. GNU's runtime
# (the one of torch's builds for Linux) counts rounds of the loop, LLVM's and Intel's milliseconds.
SHORT_WAIT = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
_CHOICES = ("OMP_WAIT_POLICY", *SHORT_WAIT)


def shorten_thread_waits() -> bool:
    """Lets idle threads of OpenMP sleep after a few microseconds, unless the environment says otherwise.

    Beside two busy processes rendering is several times faster, on an idle machine up to a fifth slower
    (`python -m benchmarks.busy`). The runtimes read this when they are loaded, so programs call it before
    they import torch. It holds for the whole process and for those that it starts. Returns whether it was
    in time.
    """
    if not any(os.environ.get(name) for name in _CHOICES):
        os.environ.update(SHORT_WAIT)
    return "torch" not in sys.modules
