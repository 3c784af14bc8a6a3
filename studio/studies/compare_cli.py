"""`calibri rewards compare … --study ID`: rewards on a study's pictures, and beside what people chose."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibri.errors import RewardError
from calibri.preference import Rate, Vote
from studio.studies.results.scores import Key, StudyPicture, pair_scores
from studio.studies.storage.picture_store import ImageStore

PICTURES = "pictures"  # in the data folder
HIDDEN = "The study is open: what people chose is shown once it is closed."


def attach(subparsers: Any) -> None:
    """Add the options of a study to `calibri rewards compare`, where that is on the command line."""
    rewards = subparsers.choices.get("rewards")
    if rewards is None:
        return
    [actions] = [a for a in rewards._actions if isinstance(a, argparse._SubParsersAction)]
    parser = actions.choices["compare"]
    group = parser.add_argument_group("instead of a folder: the pictures of a study, and its votes")
    group.add_argument("--study", metavar="ID", help="id or name; votes on it count, if it is closed")
    group.add_argument(
        "--data", type=Path, default=Path("data"), help="the studio's data folder (default: data)"
    )
    group.add_argument(
        "--url", default="http://127.0.0.1:7860", help="the running studio, if it has the folder open"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compares rewards on a folder, or on a study."""
    from calibri.commands.compare_rewards import check_names, compare, score_all, show

    if args.study is None:
        return compare(args)
    args.names = check_names(args.names)
    if args.images is not None or args.prompts is not None:
        raise RewardError("give --images DIR or --study ID: expected one of them, got both")
    asked = Asked.read(ask(args))
    pictures = asked.list_pictures(ImageStore(args.data / PICTURES))
    scores = score_all(args, pictures)
    keys = [(each.sha256, each.prompt) for each in pictures]
    by_reward = {name: dict(zip(keys, each.tolist())) for name, each in scores.items()}
    more, lines = tell_choices(asked, by_reward)
    show(args, scores, [key[1] for key in keys], [key[0][:12] for key in keys], more, lines)
    return 0


@dataclass(frozen=True)
class Asked:
    """A study as the command `choices` gives it."""

    study: str
    name: str
    hidden: bool
    questions: list[str]
    pairs: dict[str, tuple[Key, Key]]
    votes: list[dict[str, Any]]

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Asked:
        """From Python values or from JSON, which knows no tuples."""
        pairs = {id: (tuple(x), tuple(y)) for id, (x, y) in answer["pairs"].items()}
        return cls(**{**answer, "pairs": pairs})

    def list_pictures(self, images: ImageStore) -> list[StudyPicture]:
        """Each picture of each prompt once. Raises RewardError where there are none or all are gone."""
        keys = sorted({key for pair in self.pairs.values() for key in pair})
        whole = [StudyPicture(images, *key) for key in keys if images.is_whole(key[0])]
        if not whole:
            got = f"{len(keys)} missing or damaged ones" if keys else "none"
            raise RewardError(f"{self.name}: expected rendered pictures in the data folder, got {got}")
        return whole


def ask(args: argparse.Namespace) -> dict[str, Any]:
    """The study from the data folder, or from the studio that has it open."""
    from studio.studies.cli import open_or_ask

    found: dict[str, Any] = open_or_ask(args.data, args.url, "choices", {"study": args.study})
    return found


def tell_choices(asked: Asked, scores: dict[str, dict[Key, float]]) -> tuple[dict[str, Any], list[str]]:
    """How well each reward predicts people's choices, question by question: as JSON values, and as lines."""
    from calibri.analysis.comparison import describe, predict

    if asked.hidden:
        return {"study": asked.study, "choices": None}, [HIDDEN]
    votes, of_pairs = [Vote(**vote) for vote in asked.votes], pair_scores(asked.pairs, scores)
    told: dict[str, dict[str, Any]] = {}
    lines: list[str] = []
    for question in asked.questions:
        lines.append(f"What people chose in {asked.name}, question {question}; a coin would be right in 50 %")
        told[question] = {}
        for each in predict([vote for vote in votes if vote.question == question], of_pairs):
            rate = each.rate
            told[question][each.reward] = {**describe(rate), "scored_alike": each.undecided}
            if isinstance(rate, Rate):
                lines.append(f"  {each.reward} predicts {rate} of {rate.n}, {rate.method}")
            else:
                lines.append(f"  {each.reward}: no data ({rate.reason})")
    return {"study": asked.study, "choices": told}, lines
