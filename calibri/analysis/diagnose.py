"""Sweeps: one scale of a layout at a time, bypassed or multiplied, and what that does to each reward.

The paper's motivation study: scaling a single block often improves pictures. A block whose sites are all
scaled by 0 adds nothing to the residual stream: it is bypassed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from calibri.analysis.evaluate import check_finite
from calibri.analysis.settings import VALUES, SweepSettings
from calibri.backbones.layouts import Layout
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import SearchError
from calibri.files import load_json, read_text
from calibri.interval import Interval, paired_interval
from calibri.rewards.base import RewardTerm
from calibri.rewards.scoring import Pair, Progress, Scorer
from calibri.sampling.request import RenderRequest

LARGEST_SWEEP = 128 * 2**20  # bytes; 240 scales × 6 values take 1 MB


class Cell(BaseModel):
    """One scale at one value against the base, in pairs.

    `objective`: Σ_r w_r · difference_r / spread_r, with the spread of each reward on the base. `rewards`:
    differences in the rewards' own units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    objective: Interval
    rewards: dict[str, Interval]


def sweep(
    layout: Layout,
    pairs: Sequence[Pair],
    scorer: Scorer,
    rewards: Sequence[RewardTerm],
    *,
    steps: int,
    values: Sequence[float] = VALUES,
    names: Sequence[str] | None = None,
    guidance: float | None = None,
    done: Sequence[Cell] = (),
    stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> Iterator[Cell]:
    """Every scale of `names` (all of the layout by default) × every value, a cell each, as it is measured.

    `pairs`: at least 2, the same for all cells. `done`: cells measured before, which are skipped. One row
    of the heat map renders in mixed batches. `stop` is asked between batches: yes raises SearchStopped and
    loses the row under way. `progress(done, total)`: pictures of the whole sweep, `done` cells left out.
    Raises SearchError for an unknown name or a score that is not finite.
    """
    chosen = list(layout.names if names is None else names)
    unknown = [name for name in chosen if name not in layout.names]
    if unknown:
        raise SearchError(f"no scale {unknown[0]!r} in this layout; the first is {layout.names[0]!r}")
    if not all(np.isfinite(values)):
        raise SearchError(f"values: expected finite numbers, got {list(values)}")
    terms = [term.name for term in rewards]
    weights = np.array([term.weight for term in rewards])
    have = {(cell.name, cell.value) for cell in done}
    total = len(pairs) * (1 + sum((name, value) not in have for name in chosen for value in values))
    finished = 0

    def counted(images: int, _: int) -> None:
        if progress is not None:
            progress(finished + images, total)

    def scores(requests: list[RenderRequest], what: str) -> np.ndarray:
        nonlocal finished
        raw = scorer(requests, terms, stop=stop, progress=counted)
        finished += len(requests)
        check_finite(raw, requests, terms, what)
        return raw

    def request(pair: Pair, members: tuple[Member, ...] | None) -> RenderRequest:
        return RenderRequest(
            prompt=pair.prompt,
            seed=pair.seed,
            steps=steps,
            members=members,
            layout=None if members is None else layout,
            guidance=guidance if members is None else None,
        )

    base = scores([request(pair, None) for pair in pairs], "the base")
    spread = base.std(axis=0, ddof=1)
    if not (spread > 0).all():
        flat = terms[int(np.argmin(spread))]
        raise SearchError(
            f"reward {flat} gives the same score for every picture of the base: nothing to compare"
        )
    for name in chosen:
        left = [value for value in values if (name, value) not in have]
        arms = [_guided(_one_changed(layout, name, value), guidance) for value in left]
        raw = (
            scores([request(pair, members) for members in arms for pair in pairs], name) if left else base[:0]
        )
        for value, rows in zip(left, raw.reshape(len(left), len(pairs), len(terms)), strict=True):
            difference = rows - base
            yield Cell(
                name=name,
                value=value,
                objective=paired_interval((difference / spread) @ weights),
                rewards={term: paired_interval(difference[:, r]) for r, term in enumerate(terms)},
            )


def _one_changed(layout: Layout, name: str, value: float) -> tuple[float, ...]:
    return tuple(value if each == name else 1.0 for each in layout.names)


def _guided(scales: tuple[float, ...], guidance: float | None) -> tuple[Member, ...]:
    """`scales` as they act under classifier-free guidance: on both predictions."""
    if guidance in (None, 1):
        return (Member(scales=scales),)
    return (
        Member(scales=scales, weight=guidance, condition="positive"),
        Member(scales=scales, weight=1 - guidance, condition="negative"),
    )


def best_start(
    cells: Sequence[Cell], layout: Layout, backbone: str, *, bounds: tuple[float, float] = (-1.0, 2.0)
) -> Calibration:
    """The best value of each scale together, as a start for a search.

    A scale moves only where its best cell lies above 0 with its whole interval: the best of many noisy
    cells is often luck. Effects of single scales do not add up, so this is a start and no result.
    """
    scales = []
    for name in layout.names:
        mine = [
            c for c in cells if c.name == name and c.objective.low > 0 and bounds[0] <= c.value <= bounds[1]
        ]
        best = max(mine, key=lambda cell: cell.objective.mean, default=None)
        scales.append(best.value if best else 1.0)
    return Calibration(
        title=f"{backbone} {layout.granularity} best of a sweep",
        backbone=backbone,
        granularity=layout.granularity,
        names=layout.names,
        members=(Member(scales=tuple(scales)),),
        found={"how": "sweep", "cells": len(cells), "verdict": "not judged"},
    )


class SweepFile:
    """A sweep on disk, opened to go on: a header that says what it is, then one cell a line.

    `header`: plain JSON values. `cells`: those in the file. Raises SearchError where the file holds a sweep
    with another header, or cannot be written. A torn last line, as a killed process leaves it, is cut off.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.cells: list[Cell] = []
        head = {"sweep": header}
        try:
            if path.exists() and path.stat().st_size:
                text = path.read_text(encoding="utf-8")
                whole = text[: text.rfind("\n") + 1]
                if whole:
                    _check_header(path, whole.split("\n", 1)[0], head)
                    self.cells = read_sweep(path)
                if whole != text:
                    path.write_text(whole, encoding="utf-8")
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  (closed by close)
            if not self._file.tell():
                self._write(json.dumps(head, ensure_ascii=False))
        except OSError as error:
            raise SearchError(f"cannot write the sweep {path}: {error.strerror}") from error

    def append(self, cell: Cell) -> None:
        """The cell is on the disk when this returns."""
        self._write(cell.model_dump_json())
        self.cells.append(cell)

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def run_sweep(
    file: SweepFile,
    settings: SweepSettings,
    layout: Layout,
    pairs: Sequence[Pair],
    scorer: Scorer,
    *,
    stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> Iterator[Cell]:
    """Measures what the file does not hold yet: each cell once it is written. The rest is as in `sweep`."""
    cells = sweep(
        layout,
        pairs,
        scorer,
        settings.rewards,
        steps=settings.steps,
        values=settings.values,
        guidance=settings.guidance,
        done=list(file.cells),
        stop=stop,
        progress=progress,
    )
    for cell in cells:
        file.append(cell)
        yield cell


def _check_header(path: Path, line: str, head: dict[str, Any]) -> None:
    try:
        found = load_json(line)
    except ValueError as error:
        raise SearchError(f"{path} is no sweep: {error}") from error
    if found != head:
        raise SearchError(f"{path} holds a sweep with other settings; choose another file")


def sweep_header(
    fingerprint: str,
    granularity: str,
    rewards: Sequence[RewardTerm],
    steps: int,
    guidance: float | None,
    pairs: Sequence[Pair],
) -> dict[str, Any]:
    """What a sweep's cells depend on, besides their names and values. `fingerprint`: of the backbone."""
    return {
        "backbone": fingerprint,
        "granularity": granularity,
        "rewards": [term.text for term in rewards],
        "steps": steps,
        "guidance": guidance,
        "pairs": [pair.model_dump() for pair in pairs],
    }


def read_sweep(path: Path) -> list[Cell]:
    """Cells of a sweep file, one JSON object a line; a torn last line is left out. Raises SearchError."""
    try:
        lines = read_text(path, LARGEST_SWEEP, SearchError).split("\n")
    except SearchError as error:
        raise SearchError(f"cannot read the sweep {path}: {error}") from error
    cells = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is unfinished
        try:
            data = load_json(line)
            if "sweep" in data:
                continue
            cells.append(Cell.model_validate(data))
        except (ValueError, TypeError) as error:
            raise SearchError(f"line {number} of {path} is no cell of a sweep: {error}") from error
    return cells
