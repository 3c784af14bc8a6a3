"""The data set of scenes: drawn from a seed, ray cast on all cores, kept as one array. Nothing of it is
committed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np

from calibri.tabletop.raycast import SIDE, raycast
from calibri.tabletop.world import Scene, draw_scene

_CHUNK = 250


def scene_at(index: int, seed: int, split: str | None = "train") -> Scene:
    """Scene number `index` of the data set `seed`: depends on nothing else."""
    return draw_scene(np.random.default_rng([seed, index]), split)


def _chunk(task: tuple[int, int, int]) -> tuple[int, np.ndarray]:
    seed, start, stop = task
    return start, np.stack([raycast(scene_at(i, seed)) for i in range(start, stop)])


def make_pictures(
    path: Path,
    count: int,
    seed: int,
    workers: int = 2,
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Pictures of scenes 0 … count−1 of data set `seed`: (count, 128, 128, 3) uint8, memory-mapped from
    `path`.

    An existing file is used as it is; an interrupted one starts anew. `progress(done, total)` is called as
    it goes.
    """
    if path.exists():
        return np.load(path, mmap_mode="r")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npy")
    pictures = np.lib.format.open_memmap(part, "w+", np.uint8, (count, SIDE, SIDE, 3))
    tasks = [(seed, i, min(i + _CHUNK, count)) for i in range(0, count, _CHUNK)]
    done = 0
    # spawn, not fork: a caller may hold torch's threads
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for start, chunk in pool.imap_unordered(_chunk, tasks):
            pictures[start : start + len(chunk)] = chunk
            done += len(chunk)
            if progress:
                progress(done, count)
    pictures.flush()
    part.rename(path)
    return np.load(path, mmap_mode="r")
