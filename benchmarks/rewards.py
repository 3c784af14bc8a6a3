"""Rewards on their tiny golden checkpoints: agreement with their own code, speed, what keeping scores saves.

    python -m benchmarks.rewards
    python -m benchmarks.rewards --only imagereward --real-size imagereward --pictures 8
    python -m benchmarks.rewards --device cuda --dtype bfloat16 --real-size hpsv3,pickscore,mps

`golden`: largest difference from the scores that the reward's own code gave. `cache_ratio`: how many times
faster the same pictures are scored when their scores are kept; `evaluation`: the same for all rewards on one
set of pictures. `--real-size` also writes checkpoints of the published size, with random weights, loads them
as any other, and tells their speed and memory; hpsv3, qalign and vqascore-xxl need 16 to 23 GB on disk and as
much memory. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

import calibri
from benchmarks.real_size import REAL, UNUSED, write_real
from calibri.commands.rewards import CASE_KEYS, drawn_pictures
from calibri.rewards.base import Reward
from calibri.rewards.cache import CachedReward, ScoreCache
from calibri.rewards.catalog import CATALOG
from calibri.rewards.scoring import LocalScorer

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "rewards"
#: Checkpoints that are not in a folder of the reward's name.
FOLDERS = {"clipscore": "aesthetic", "qalign-aesthetics": "qalign"}
FOLDERS |= dict.fromkeys(("vqascore-xl", "vqascore-xxl"), "vqascore")


def golden_folder(name: str) -> Path:
    return GOLDEN / FOLDERS.get(name, name)


def tried(reward: Reward, images: list[Image.Image], prompts: list[str]) -> tuple[np.ndarray, float]:
    """Scores, and pictures a second."""
    began = time.perf_counter()
    scores = reward.score(images, prompts)
    return scores, len(images) / (time.perf_counter() - began)


def measured(name: str, device: str, pictures: int, side: int) -> tuple[Reward, dict[str, Any]]:
    folder = golden_folder(name)
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    reward = calibri.load_reward(name, source=folder, device=device)
    images = [Image.open(folder / path) for path in cases["images"]]
    expected = np.array(cases[CASE_KEYS.get(name, "score")])
    difference = float(np.abs(reward.score(images, cases["prompts"]) - expected).max())
    spread = float(expected.std())

    images = drawn_pictures(pictures, side)
    prompts = [f"{cases['prompts'][i % 3][:60]} {i}" for i in range(pictures)]
    _, speed = tried(reward, images, prompts)
    with tempfile.TemporaryDirectory() as place:
        kept = CachedReward(reward, ScoreCache(Path(place) / "scores.db"))
        first, before = tried(kept, images, prompts)
        again, after = max((tried(kept, images, prompts) for _ in range(3)), key=lambda found: found[1])
    assert np.array_equal(first, again)
    return reward, {
        "golden": difference,
        "golden_of_spread": difference / spread if spread else None,
        "pictures_per_second": round(speed, 1),
        "pictures_per_second_kept": round(after, 1),
        "cache_ratio": round(after / before, 1),
    }


class Album:
    """A renderer whose pictures are there already."""

    def __init__(self, images: list[Image.Image]) -> None:
        self.images = images

    def render(self, batch: Sequence[Any], turn: Any = None) -> list[Any]:
        return [SimpleNamespace(image=self.images[request.number]) for request in batch]


def evaluated_twice(rewards: dict[str, Reward], pictures: int, side: int) -> dict[str, float]:
    """Seconds of an evaluation by all rewards, and of the same once more, without rendering."""
    album: Any = Album(drawn_pictures(pictures, side))
    requests: Any = [SimpleNamespace(prompt=f"a red cube {i}", number=i) for i in range(pictures)]
    with tempfile.TemporaryDirectory() as place:
        scorer = LocalScorer(album, rewards, cache=ScoreCache(Path(place) / "scores.db"))
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            scorer(requests, list(rewards))
            seconds.append(time.perf_counter() - began)
    return {"first": seconds[0], "second": seconds[1], "times_faster": round(seconds[0] / seconds[1], 1)}


# ---- checkpoints of the published size


def measured_real(name: str, device: str, dtype: str, pictures: int, side: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = write_real(name, golden_folder(name), Path(place) / name)
        began = time.perf_counter()
        reward = calibri.load_reward(name, source=folder, device=device, dtype=dtype)
        loaded = time.perf_counter() - began
        images, prompts = drawn_pictures(pictures, side), [f"a red cube {i}" for i in range(pictures)]
        reward.score(images[:2], prompts[:2])
        _, speed = tried(reward, images, prompts)
        kept = CachedReward(reward, ScoreCache(Path(place) / "scores.db"))
        _, before = tried(kept, images, prompts)
        _, after = tried(kept, images, prompts)
        report = {
            "parameters": reward.info.parameters,
            "parameters_published": CATALOG[name].parameters - UNUSED.get(name, 0),
            "dtype": dtype,
            "seconds_to_load": round(loaded, 1),
            "pictures_per_second": round(speed, 1),
            "cache_ratio": round(after / before, 1),
        }
        if torch.device(device).type == "cuda":
            report["gpu_gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        reward.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="of the checkpoints of the published size")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--side", type=int, default=512, help="pixels")
    parser.add_argument("--real-size", default="", metavar="NAMES", help=f"some of {', '.join(REAL)}")
    parser.add_argument("--only", default="", metavar="NAMES", help="of the golden checkpoints")
    args = parser.parse_args()
    real = [name for name in args.real_size.split(",") if name]
    if strange := set(real) - set(REAL):
        parser.error(f"--real-size: expected some of {', '.join(REAL)}, got {', '.join(strange)}")
    only = [name for name in args.only.split(",") if name] or list(CATALOG)
    names = [name for name in CATALOG if name in only and (golden_folder(name) / "cases.json").is_file()]
    found = {name: measured(name, args.device, args.pictures, args.side) for name in names}
    loaded = {name: reward for name, (reward, _) in found.items()}
    report: dict[str, Any] = {
        "device": args.device,
        "pillow": PIL.__version__,
        "rewards": {name: told for name, (_, told) in found.items()},
        "evaluation": evaluated_twice(loaded, args.pictures, args.side) if loaded else None,
    }
    for reward in loaded.values():
        reward.close()
    if real:
        report["real_size"] = {
            name: measured_real(name, args.device, args.dtype, args.pictures, args.side) for name in real
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
