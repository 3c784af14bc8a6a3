"""`calibri rewards compare`: whether rewards agree on pictures, and how far two of them are apart."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.errors import RewardError
from calibri.preference import Correlation, NoData

if TYPE_CHECKING:
    import numpy as np

    from calibri.analysis.comparison import Agreement, Pictured


def add_compare(actions: Any) -> argparse.ArgumentParser:
    """Adds the action to those of `calibri rewards`."""
    from calibri.commands.rewards import add_loading, add_scores

    parser: argparse.ArgumentParser = actions.add_parser(
        "compare",
        help="whether rewards agree on the same pictures",
        description="Scores pictures with several rewards, one reward in memory at a time. Prints how alike "
        "they order the pictures (Spearman's correlation, over all and within prompts, intervals by "
        "resampling prompts) and the largest difference of two scores.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="of a reward, two or more")
    parser.add_argument("--images", type=Path, metavar="DIR", help="a folder with pictures")
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="their prompts: a JSON object or table by file name, or one line a picture in the order of "
        "names (default: NAME.txt beside each, or the settings inside its PNG)",
    )
    add_loading(parser)
    add_scores(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=compare)
    return parser


def compare(args: argparse.Namespace) -> int:
    """Compares rewards on a folder of pictures."""
    from calibri.analysis.album import find_pictures

    args.names = check_names(args.names)
    if args.images is None:
        raise RewardError("give --images DIR, a folder with pictures")
    pictures = find_pictures(args.images, args.prompts)
    scores = score_all(args, pictures)
    show(args, scores, [each.prompt for each in pictures], [each.path.name for each in pictures])
    return 0


def check_names(names: Sequence[str]) -> list[str]:
    """The names as records have them. Raises RewardError for fewer than two, or one that is named twice."""
    from calibri.commands.rewards import admit_files

    names = [admit_files(name) for name in names]
    if len(names) < 2 or len(set(names)) < len(names):
        raise RewardError(f"expected two or more different rewards, got {', '.join(names)}")
    return names


def score_all(args: argparse.Namespace, pictures: Sequence[Pictured]) -> dict[str, np.ndarray]:
    """Reward → (n,) scores. Each is loaded, scores all pictures, and is closed before the next one."""
    from calibri.analysis.comparison import score_pictures
    from calibri.commands.rewards import open_scores, read_loading
    from calibri.rewards.base import close_reward

    loading, cache, found = read_loading(args, args.names), open_scores(args.scores), {}
    try:
        for name in args.names:
            reward = loading.load_one(name, "cpu")
            try:
                tell = (
                    (lambda done, name=name: _tell(name, done, len(pictures)))
                    if sys.stderr.isatty()
                    else None
                )
                found[name] = score_pictures(reward, pictures, cache, *([tell] if tell else []))
            finally:
                close_reward(reward)
    finally:
        if cache is not None:
            cache.close()
    return found


def _tell(name: str, done: int, total: int) -> None:
    print(f"\r{name}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def show(
    args: argparse.Namespace,
    scores: Mapping[str, np.ndarray],
    prompts: Sequence[str],
    pictures: Sequence[str],
    more: Mapping[str, Any] | None = None,
    lines: Sequence[str] = (),
) -> None:
    """Prints the comparison. `more`, `lines`: what else is known, as JSON and as text."""
    from calibri.analysis.comparison import agree, describe, summarise

    summaries, agreements = summarise(scores), agree(scores, prompts)
    if args.json:
        report = {
            "pictures": len(prompts),
            "prompts": len(set(prompts)),
            "rewards": {each.reward: {"mean": each.mean, "spread": each.spread} for each in summaries},
            "agreement": [
                {
                    "rewards": [each.a, each.b],
                    "spearman": describe(each.overall),
                    "spearman_within_prompts": describe(each.within),
                    "largest_difference": each.largest,
                    "largest_on": pictures[each.at],
                }
                for each in agreements
            ],
            **(more or {}),
        }
        print(json.dumps(report, indent=1, ensure_ascii=False))
        return
    print(f"{len(prompts)} pictures of {len(set(prompts))} prompts")
    for one in summaries:
        print(f"{one.reward}: mean {one.mean:.5g}, spread {one.spread:.3g}")
    for each in agreements:
        print("\n".join(["", *_words(each, pictures)]))
    print("\n".join(["", *lines]) if lines else "", end="\n" if lines else "")


def _words(each: Agreement, pictures: Sequence[str]) -> list[str]:
    return [
        f"{each.a} and {each.b}",
        f"  order of all pictures: {_correlation(each.overall)}",
        f"  order within prompts: {_correlation(each.within)}",
        f"  largest difference {each.largest:.3g}, of {pictures[each.at]}",
    ]


def _correlation(value: Correlation | NoData) -> str:
    return f"no data ({value.reason})" if isinstance(value, NoData) else f"Spearman {value}, {value.method}"
