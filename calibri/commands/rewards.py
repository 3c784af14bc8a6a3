"""`calibri rewards`: which rewards there are and what each needs; and a trial of one."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.commands.compare_rewards import add_compare
from calibri.commands.rewards_serve import add_serve
from calibri.errors import RewardError
from calibri.rewards.base import RewardLoading, known_rewards, unusable_rewards
from calibri.rewards.catalog import CATALOG, RewardSpec
from calibri.rewards.own import admit, admit_addresses, is_file_name, split_weight
from calibri.rewards.sources import WRITTEN, read_sources

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from calibri.rewards.base import Reward
    from calibri.rewards.cache import ScoreCache

CASES = "cases.json"  # in a folder of weights: pictures, prompts and the scores that they should get
CASE_KEYS = {  # under which a reward's scores lie there, if not under `score`
    "clipscore": "clipscore_hessel",
    "hpsv3": "mu",
    "qalign": "quality",
    "qalign-aesthetics": "aesthetics",
}
_TRIAL_PROMPTS = ("a red cube left of a blue sphere", "two green cones", "a photograph of a fox, smiling")


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds `rewards` to the command line."""
    parser = subparsers.add_parser("rewards", help="which rewards there are, and a trial of one")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        help="all rewards and what they need",
        description="Loads no weights and asks no network.",
    )
    listing.add_argument("--backbone", help="only those that fit this backbone")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=show)
    trial = actions.add_parser(
        "test",
        help="load a reward and score a few pictures",
        description="Loads a reward, downloading what is missing, and scores a few pictures, alone and "
        f"together. A folder of weights with a {CASES} tells which scores its own code gave: they are "
        "compared.",
    )
    trial.add_argument("name", help="of the reward")
    trial.add_argument("--source", help="hub id, id@revision or folder (default: the catalogue's)")
    trial.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps")
    trial.add_argument(
        "--dtype", default="auto", help="auto, float32, bfloat16, float16; some take 8bit, 4bit"
    )
    trial.add_argument("--json", action="store_true", help="print JSON")
    trial.set_defaults(run=try_reward)
    add_serve(actions)
    add_compare(actions)


# ---- options of other commands


def admit_files(names: str) -> str:
    """The option of that name as records have it: files are admitted and named from the current folder.

    Raises RewardError for a file that is not there.
    """
    parts = []
    for part in names.split(","):
        name, weight = split_weight(part.strip())
        if is_file_name(name):
            part = ":".join(filter(None, (admit(name), weight)))
        parts.append(part)
    return ",".join(parts)


def add_loading(group: Any) -> None:
    """Options of a command that loads rewards."""
    group.add_argument(
        "--reward-source",
        action="append",
        default=[],
        metavar=WRITTEN,
        help="a folder or hub id for the weights of a reward; may be given several times",
    )
    group.add_argument(
        "--reward-device",
        metavar="DEVICE",
        help="of the rewards, such as cpu or cuda:1 (default: the backbone's)",
    )
    group.add_argument(
        "--reward-dtype",
        metavar="DTYPE",
        help="of the rewards: auto, float32, bfloat16, float16; some take 8bit and 4bit (default: auto)",
    )


def add_scores(group: Any) -> None:
    """The option of a command that can keep scores."""
    group.add_argument(
        "--scores", type=Path, metavar="FILE", help="keep scores there; known pictures are not scored again"
    )


def read_loading(args: argparse.Namespace, names: Sequence[str]) -> RewardLoading:
    """How these rewards are to be loaded. Raises RewardError for an unknown one, and for what does not fit or
    is missing."""
    if unknown := [name for name in names if name not in known_rewards()]:
        raise RewardError(f"unknown reward {unknown[0]!r}; known are {', '.join(known_rewards())}")
    given = read_sources(args.reward_source, "--reward-source")
    sources = {admit_files(name): source for name, source in given.items()}
    admit_addresses(sources.values())
    loading = RewardLoading.read(sources, args.reward_device, args.reward_dtype)
    loading.check(names)
    return loading


def open_scores(path: Path | None) -> ScoreCache | None:
    """The file of --scores."""
    from calibri.rewards.cache import ScoreCache

    return None if path is None else ScoreCache(path)


# ---- list


def describe(name: str) -> dict[str, Any]:
    """What is known of a reward without loading it. Of those that packages bring, that is the name."""
    spec = CATALOG.get(name)
    if spec is None:
        return {"name": name}
    return {**spec.model_dump(exclude={"place"}), "missing": list(spec.missing), "there": is_there(spec)}


def is_there(spec: RewardSpec) -> bool:
    """Whether its weights are on this machine."""
    from calibri.rewards.weights import is_cached

    return not spec.source or is_cached(spec.source)


def show(args: argparse.Namespace) -> int:
    """Prints the catalogue and what packages bring."""
    rows = [
        describe(name)
        for name in known_rewards()
        if args.backbone is None or name not in CATALOG or CATALOG[name].fits(args.backbone)
    ]
    unusable = unusable_rewards()
    rows = [row for row in rows if row["name"] not in unusable or row["name"] in CATALOG]
    rows += [{"name": name, "unusable": why} for name, why in unusable.items()]
    if args.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    print(f"{'name':18s} {'role':6s}  {'licence':13s} {'memory':>7s}  {'weights':36s} what it measures")
    for row in rows:
        if "role" not in row:
            print(
                f"{row['name']:18s} "
                + (f"unusable: {row['unusable']}" if "unusable" in row else "from a package")
            )
            continue
        memory = gigabytes(min(row["memory"].values())) if row["memory"] else ""
        own = "in its package" if row["packages"] else "in the project"
        state = row["source"] + ("" if row["there"] else " ↓") if row["source"] else own
        lacks = f" (needs {', '.join(row['missing'])})" if row["missing"] else ""
        print(
            f"{row['name']:18s} {row['role']:6s}  {row['licence']:13s} {memory:>7s}  {state:36s} "
            f"{row['summary']}{lacks}"
        )
    print("\n↓ is downloaded when it is first used.")
    return 0


def gigabytes(size: int) -> str:
    """`4.3 GB`."""
    return f"{size / 1e9:.1f} GB"


# ---- test


def try_reward(args: argparse.Namespace) -> int:
    """Loads a reward, scores pictures and says what it saw."""
    from calibri.rewards.base import load_reward

    began = time.perf_counter()
    reward = load_reward(args.name, args.source, args.device, args.dtype)
    loaded = time.perf_counter() - began
    images, prompts, expected = trial_cases(args.name, args.source)
    report = {
        **reward.info.model_dump(),
        "seconds_to_load": round(loaded, 2),
        **measure(reward, images, prompts, expected),
    }
    if args.json:
        print(json.dumps(report, indent=1, ensure_ascii=False))
        return 0
    print(f"{reward.info.name}: {reward.info.description}")
    print(f"weights {report['source'] or 'of its own'}, id {report['weights'] or 'unknown'}")
    print(f"revision {report['revision'] or 'none: its scores are not kept'}")
    print(f"{report['parameters'] / 1e6:.1f} million parameters, {report['licence'] or 'licence not told'}")
    print(f"loaded in {loaded:.1f} s, {report['pictures_per_second']:.1f} pictures a second on {args.device}")
    print("scores " + ", ".join(f"{score:.5g}" for score in report["scores"]))
    print(f"alone or together they differ by at most {report['alone']:.1e}")
    if "golden" in report:
        print(
            f"from the scores in {CASES} they differ by at most {report['golden']:.1e}, "
            f"{report['golden_of_spread']:.1e} of their spread"
        )
    return 0


def trial_cases(name: str, source: str | None) -> tuple[list[Image.Image], list[str], list[float] | None]:
    """Pictures, prompts and the scores expected of them: those of the folder's cases, else drawn here."""
    from PIL import Image

    path = Path(source).expanduser() / CASES if source else Path()
    if path.is_file():
        cases = json.loads(path.read_text(encoding="utf-8"))
        images: list[Image.Image] = [Image.open(path.parent / picture) for picture in cases["images"]]
        return images, list(cases["prompts"]), cases.get(CASE_KEYS.get(name, "score"))
    return drawn_pictures(len(_TRIAL_PROMPTS)), list(_TRIAL_PROMPTS), None


def drawn_pictures(count: int, side: int = 512) -> list[Image.Image]:
    """Colour gradients with a little noise, always the same."""
    import numpy as np
    from PIL import Image

    draw = np.random.Generator(np.random.PCG64(0))
    ramp = np.linspace(0, 255, side)
    pictures = []
    for _ in range(count):
        mix = draw.uniform(0, 1, 3)
        plain = ramp[:, None, None] * mix + ramp[None, :, None] * (1 - mix)
        noisy = plain + draw.normal(0, 8, (side, side, 3))
        pictures.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return pictures


def measure(
    reward: Reward, images: list[Image.Image], prompts: list[str], expected: list[float] | None
) -> dict[str, Any]:
    """Scores, their speed, and how far they are from each other and from what is expected."""
    import numpy as np

    together: np.ndarray = reward.score(images, prompts)
    began = time.perf_counter()
    again = reward.score(images, prompts)
    seconds = time.perf_counter() - began
    alone = np.concatenate([reward.score([i], [p]) for i, p in zip(images, prompts, strict=True)])
    if not np.isfinite(together).all():
        raise RewardError(f"{reward.info.name} gave scores that are not finite: {together.tolist()}")
    found: dict[str, Any] = {
        "scores": together.tolist(),
        "pictures_per_second": round(len(images) / max(seconds, 1e-9), 2),
        "alone": float(np.abs(together - alone).max()),
        "repeated": float(np.abs(together - again).max()),
    }
    if expected is not None:
        difference = float(np.abs(together - np.array(expected)).max())
        spread = float(np.std(expected))
        found |= {"golden": difference, "golden_of_spread": difference / spread if spread else difference}
    return found
