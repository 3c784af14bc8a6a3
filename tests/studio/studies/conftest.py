"""A small study in a folder of its own, with real pictures and a clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calibri.calibration.artifact import Calibration, Member
from studio.studies.planning import NewArm, NewPrompt, NewStudy
from studio.studies.protocol import Protocol
from studio.studies.storage.study_store import Study
from studio.studies.studies import Studies, open_studies
from studio.studies.voting.ballots import View
from studio.studies.voting.identity import Who


class Clock:
    """The time of a test: 2026-01-01 until moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


TABLETOP = (*(f"double.{i}" for i in range(4)), *(f"single.{i}" for i in range(8)))  # its blocks


def calibration(scale: float = 1.1, title: str = "") -> str:
    return Calibration(
        title=title,
        backbone="tabletop",
        granularity="block",
        names=TABLETOP,
        members=(Member(scales=(scale,) * len(TABLETOP)),),
    ).to_json()


def picture(seed: int, pixels: int = 16) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (pixels, pixels, 3), dtype=np.uint8)
    return Image.fromarray(noise, "RGB")


def hang_pictures(studies: Studies, study: str) -> None:
    """A different picture for each arm, prompt and seed, as a render would give."""
    made = {}
    for number, pair in enumerate(studies.store.pairs(study)):
        for arm in (pair.arm_x, pair.arm_y):
            key = (arm, pair.prompt, pair.seed)
            if key not in made:
                made[key] = studies.images.put(picture(7 * number + (arm == pair.arm_x)))
    studies.store.hang(
        [
            (p.id, made[(p.arm_x, p.prompt, p.seed)], made[(p.arm_y, p.prompt, p.seed)])
            for p in studies.store.pairs(study)
            if p.kind != "repeat"
        ]
    )


def make_draft(
    studies: Studies, prompts: int = 6, arms: int = 2, name: str = "test", **protocol: Any
) -> Study:
    """A study with pictures, not open yet."""
    labels = ["base-arm", "calibrated-arm", "ensemble-arm", "fourth-arm"][:arms]
    new = NewStudy(
        name=name,
        seed=5,
        arms=tuple(
            NewArm(
                label=label,
                kind="calibrated" if i else "base",
                calibration=calibration(1 + i / 10) if i else None,
            )
            for i, label in enumerate(labels)
        ),
        prompts=tuple(NewPrompt(text=f"prompt number {i}") for i in range(prompts)),
        protocol=Protocol(**{"least_view_ms": 0, **protocol}),
    )
    study = studies.create(new)
    hang_pictures(studies, study.id)
    return study


@dataclass
class World:
    """A data folder with helpers to make studies and to vote."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    every: int = 10_000
    studies: Studies = field(init=False)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.studies = open_studies(self.folder, None, every=self.every, clock=self.clock, random=Random(4))

    def reopen(self) -> None:
        self.studies.close()
        self.open()

    def draft(self, *args: Any, **protocol: Any) -> Study:
        return make_draft(self.studies, *args, **protocol)

    def study(self, *args: Any, **protocol: Any) -> Study:
        return self.studies.set_status(self.draft(*args, **protocol).id, "open")

    def rater(self, study: Study, number: int = 0) -> Rater:
        return Rater(self.studies, study.id, Who("anonymous", f"rater{number:020d}"), clock=self.clock)


@dataclass
class Rater:
    """Somebody in front of a browser."""

    studies: Studies
    study: str
    who: Who
    view: View | None = None
    clock: Clock | None = None
    looks: float = 1.5  # seconds before each vote

    def join(self) -> Rater:
        self.view = self.studies.voting.consent(self.study, self.who)
        return self

    @property
    def token(self) -> str:
        return self.view.showings[0]["token"]

    def vote(self, side: str = "left", **more: Any) -> View:
        answers = {q["id"]: side for q in self.view.questions}
        if self.clock is not None:
            self.clock.move(seconds=self.looks)
        self.view = self.studies.voting.cast(self.study, self.who, self.token, answers, **more)
        return self.view

    def vote_all(self, side: str | None = None, seed: int = 0) -> int:
        random, count = Random(seed), 0
        while self.view.stage == "vote":
            self.vote(side or random.choice(["left", "right"]))
            count += 1
        return count


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "data")
    yield made
    made.studies.close()


def rows(world: World) -> list[dict[str, Any]]:
    return world.studies.db.records("SELECT * FROM votes ORDER BY time, id")
