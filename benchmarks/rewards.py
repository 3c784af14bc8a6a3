"""Rewards on their tiny golden checkpoints: agreement with their own code, speed, what keeping scores saves.

    python -m benchmarks.rewards
    python -m benchmarks.rewards --device cuda --real-size pickscore,mps

`golden`: largest difference from the scores that the reward's own code gave. `cache_ratio`: how many times
faster the same pictures are scored when their scores are kept; `evaluation`: the same for all rewards on one
set of pictures. `--real-size` also makes checkpoints of the
published size, with random weights, and tells their speed. JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import shutil
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
from calibri.commands.rewards import CASE_KEYS, drawn_pictures
from calibri.rewards.base import Reward
from calibri.rewards.cache import CachedReward, ScoreCache
from calibri.rewards.catalog import CATALOG
from calibri.rewards.scoring import LocalScorer

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "rewards"
#: Checkpoints that are not in a folder of the reward's name.
FOLDERS = {"clipscore": "aesthetic", "vqascore-xl": "vqascore", "qalign-aesthetics": "qalign"}


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


def random_clip(
    width: tuple[int, int], layers: tuple[int, int], heads: tuple[int, int], projection: int
) -> Any:
    """A CLIPModel of this size, bfloat16, (vision, text) each."""
    from transformers import CLIPConfig, CLIPModel

    def tower(i: int) -> dict[str, Any]:
        sizes = {"hidden_size": width[i], "intermediate_size": 4 * width[i]}
        return {
            **sizes,
            "num_hidden_layers": layers[i],
            "num_attention_heads": heads[i],
            "hidden_act": "gelu",
        }

    config = CLIPConfig(
        vision_config={**tower(0), "patch_size": 14},
        text_config={**tower(1), "eos_token_id": 2},
        projection_dim=projection,
    )
    with torch.random.fork_rng():
        return CLIPModel(config).to(torch.bfloat16)


def real_folder(name: str, folder: Path) -> Path:
    """A checkpoint of the published size with random weights, in the published layout."""
    from safetensors.torch import load_file, save_file

    from calibri.rewards.mps import CrossModel

    shutil.copytree(golden_folder(name), folder)
    huge = name in ("pickscore", "mps")
    model = (
        random_clip((1280, 1024), (32, 24), (16, 16), 1024)
        if huge
        else random_clip((1024, 768), (24, 12), (16, 12), 768)
    )
    if name == "mps":
        cross = CrossModel(1024, 4, 16, 64).to(torch.bfloat16).state_dict()
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        for key, value in cross.items():
            layer, number, rest = key.removeprefix("layers.").split(".", 2)
            tensors[f"cross_model.layers.{layer}.{number}.fn.{rest}"] = value
        save_file(tensors, folder / "mps.safetensors")
    else:
        model.save_pretrained(folder if name == "pickscore" else folder / "clip")
    if name == "aesthetic":
        path = folder / "sac+logos+ava1-l14-linearMSE.safetensors"
        head = load_file(path)
        head["layers.0.weight"] = torch.randn(len(head["layers.0.weight"]), 768).half() / 28
        save_file(head, path)
    return folder


def measured_real(name: str, device: str, dtype: str, pictures: int, side: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = real_folder(name, Path(place) / name)
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
            "as_catalogued": reward.info.parameters == CATALOG[name].parameters,
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
    parser.add_argument(
        "--real-size", default="", metavar="NAMES", help="pickscore, mps, aesthetic, clipscore"
    )
    args = parser.parse_args()
    names = [name for name in CATALOG if (golden_folder(name) / "cases.json").is_file()]
    found = {name: measured(name, args.device, args.pictures, args.side) for name in names}
    loaded = {name: reward for name, (reward, _) in found.items()}
    report: dict[str, Any] = {
        "device": args.device,
        "pillow": PIL.__version__,
        "rewards": {name: told for name, (_, told) in found.items()},
        "evaluation": evaluated_twice(loaded, args.pictures, args.side),
    }
    for reward in loaded.values():
        reward.close()
    if args.real_size:
        report["real_size"] = {
            name: measured_real(name, args.device, args.dtype, args.pictures, args.side)
            for name in args.real_size.split(",")
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
