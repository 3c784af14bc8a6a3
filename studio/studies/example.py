"""The example that fills Results before anybody voted: a study with simulated votes, read from the assets.

It never touches the file of votes. `simulate` makes it, once, for the assets; every place that shows it
says that nobody voted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from calibri.errors import StudyError
from calibri.files import read_text
from studio.studies.protocol import PRESETS
from studio.studies.storage.study_store import ArmKind, Study, StudyArm

log = logging.getLogger(__name__)

ID = "example"
NAME = "Example with simulated votes"
SAID = "These votes are simulated, so that you see what results look like: nobody voted."
FILE = Path("studies") / "example.json"
LARGEST = 4 * 2**20  # bytes
BEGAN = datetime(2026, 1, 5, 9, 0)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExampleArm(_Frozen):
    label: str
    kind: ArmKind


class ExampleVote(_Frozen):
    """One answer. `pair`: place in the list of pairs; `answer`: x, y, tie or both_bad."""

    pair: int
    question: str
    rater: str
    answer: str
    left_is_x: bool
    ms: int
    second: int  # since the study was opened


class ExamplePair(_Frozen):
    """Two arms, by their places, on one prompt. `kind`: real or gold."""

    x: int
    y: int
    prompt: str
    category: str
    kind: str = "real"


class ExampleFile(_Frozen):
    """What the file holds."""

    format: str = "calibri-example-study/1"
    preset: str
    arms: tuple[ExampleArm, ...]
    pairs: tuple[ExamplePair, ...]
    votes: tuple[ExampleVote, ...]


@dataclass(frozen=True)
class ExampleStudy:
    """The study as results read one. `rows`: as VoteStore.rows."""

    study: Study
    arms: tuple[StudyArm, ...]
    rows: tuple[dict[str, Any], ...]


def open_example(assets: Path) -> ExampleStudy | None:
    """The example of these assets; None where there is none that can be read."""
    path = assets / FILE
    if not path.exists():
        return None
    try:
        return _study(ExampleFile.model_validate_json(read_text(path, LARGEST, StudyError)))
    except (StudyError, ValidationError, OSError, IndexError, KeyError) as error:
        log.warning("the example study cannot be read: %s", error)
        return None


def _study(file: ExampleFile) -> ExampleStudy:
    last = BEGAN + timedelta(seconds=max((vote.second for vote in file.votes), default=0) + 60)
    study = Study(ID, NAME, PRESETS[file.preset], 5, "closed", BEGAN, BEGAN, last)
    arms = tuple(
        StudyArm(f"{ID}-{place}", ID, arm.label, arm.kind, "tabletop", 8, place=place)
        for place, arm in enumerate(file.arms)
    )
    rows = tuple(_row(file, number, vote) for number, vote in enumerate(file.votes, 1))
    return ExampleStudy(study, arms, rows)


def _row(file: ExampleFile, number: int, vote: ExampleVote) -> dict[str, Any]:
    pair = file.pairs[vote.pair]
    x, y = file.arms[pair.x].label, file.arms[pair.y].label
    sides = {"x": "left" if vote.left_is_x else "right", "y": "right" if vote.left_is_x else "left"}
    return {
        "id": f"{ID}-{number}",
        "study": ID,
        "question": vote.question,
        "prompt": pair.prompt,
        "seed": 1,
        "category": pair.category,
        "kind": pair.kind,
        "pair": f"{ID}-pair-{vote.pair}",
        "arm_x": x,
        "arm_y": y,
        "left_is_x": vote.left_is_x,
        "side": sides.get(vote.answer, vote.answer),
        "winner": vote.answer,
        "winning_arm": {"x": x, "y": y}.get(vote.answer),
        "image_x": None,
        "image_y": None,
        "rater": vote.rater,
        "response_ms": vote.ms,
        "shown_ms": vote.ms,
        "server_ms": vote.ms,
        "comment": None,
        "time": BEGAN + timedelta(seconds=vote.second),
        "number": number,
        "valid": True,
    }


#: How much each arm is liked, in logits of Bradley–Terry against the base, for each question.
STRENGTHS = {"preference": (0.0, 0.9, 1.3), "alignment": (0.0, 0.15, 0.7)}
ARMS = (("base", "base"), ("layer calibration", "calibrated"), ("guided ensemble", "ensemble"))
RATERS, PAIRS_EACH, TIES = 14, 24, 0.12


def simulate(prompts: Sequence[tuple[str, str]], seed: int = 11) -> ExampleFile:
    """A study of three arms on (prompt, category) with raters who choose by Bradley–Terry; the last of
    them answers at random and too fast, so that a flag is seen."""
    random = Random(seed)
    pairs = [
        ExamplePair(x=x, y=y, prompt=prompt, category=category)
        for prompt, category in prompts
        for x, y in combinations(range(len(ARMS)), 2)
    ]
    votes = []
    for rater in range(RATERS):
        second = rater * 1500 + random.randrange(900)
        careless = rater == RATERS - 1
        for place in random.sample(range(len(pairs)), min(PAIRS_EACH, len(pairs))):
            pair, ms = pairs[place], random.randrange(180, 420) if careless else random.randrange(1500, 9000)
            left = random.random() < 0.5
            for question, strengths in STRENGTHS.items():
                odds = 2.718281828 ** (0.0 if careless else strengths[pair.x] - strengths[pair.y])
                answer = "x" if random.random() < odds / (1 + odds) else "y"
                if not careless and random.random() < TIES:
                    answer = "tie"
                second += 1 + ms // 1000
                votes.append(
                    ExampleVote(
                        pair=place,
                        question=question,
                        rater=f"rater {rater + 1}",
                        answer=answer,
                        left_is_x=left,
                        ms=ms,
                        second=second,
                    )
                )
    votes.sort(key=lambda vote: vote.second)
    arms = tuple(ExampleArm(label=label, kind=kind) for label, kind in ARMS)  # type: ignore[arg-type]  # of ARMS
    return ExampleFile(preset="side-by-side", arms=arms, pairs=tuple(pairs), votes=tuple(votes))


def write_example(assets: Path, file: ExampleFile) -> Path:
    """Write it where `open_example` reads it."""
    path = assets / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(file.model_dump(mode="json"), separators=(",", ":")) + "\n", encoding="utf-8")
    return path
