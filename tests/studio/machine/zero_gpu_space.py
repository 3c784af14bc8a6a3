"""A Space on ZeroGPU, as far as a machine without a GPU can be one: the hub's real package `spaces` with its
emulation of CUDA, its forked processes and its calls to the device service, which the test stands in for.

    python -m tests.studio.machine.zero_gpu_space PORT FOLDER    # of the studio, and its data folder

Only what needs a real driver is replaced: torch's build without CUDA gets the few names that `spaces` looks
for, and "moving to the GPU" gives the placed weights back as they are.
"""

from __future__ import annotations

import sys


def stand_in_for_the_driver() -> None:
    """Before `spaces` is imported by the studio."""
    import torch

    def _is_in_bad_fork() -> bool:
        return False

    _is_in_bad_fork.__module__, _is_in_bad_fork.__qualname__ = "torch.cuda", "_is_in_bad_fork"
    torch.version.cuda = torch.version.cuda or "12.8"
    torch.cuda._is_in_bad_fork = _is_in_bad_fork
    if not hasattr(torch._C, "_cuda_init"):
        torch._C._cuda_init = lambda: None


def keep_weights_here() -> None:
    """After `spaces` was imported: nothing is packed for a GPU, and nothing moves there."""
    import spaces.zero.torch as of_torch
    from spaces.zero.torch import patching

    def move(callback: object = None) -> None:
        for placed, original in patching.cuda_aliases.items():
            placed.data = original

    of_torch.init = lambda uuid: None
    of_torch.move = move
    of_torch.pack = lambda: 0


def main() -> int:
    stand_in_for_the_driver()
    from studio.machine import zero_gpu
    from studio.settings import read_settings
    from studio.shell.start import run_studio

    find = zero_gpu.find_lend

    def find_here() -> object:
        lend = find()
        keep_weights_here()
        return lend

    zero_gpu.find_lend = find_here
    port, folder = sys.argv[1:3]
    return run_studio(
        read_settings(["--host", "127.0.0.1", "--port", port, "--data", folder, "--dtype", "float32"])
    )


if __name__ == "__main__":
    sys.exit(main())
