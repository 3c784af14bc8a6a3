"""`front.json`: the points of a front with what they gain on held-out pairs, each a calibration file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import ValidationError

from calibri.errors import ArtifactError, sentence
from calibri.files import write_whole
from calibri.interval import Interval
from calibri.rewards.base import Frozen
from calibri.search.front import hypervolume, on_front, place_of_equal, shares_of, weights_of
from calibri.search.judgement import Bench, Judgement, Shipment
from calibri.search.records import BaseRecord, PointRecord, ResultRecord

FRONT = "front.json"
FOLDER = "front"  # of the calibrations
FORMAT: Final = "calibri-front/1"


class FrontPoint(Frozen):
    """One point. `calibration`: its file, from the run's folder. `shares`: of the rewards in the weighting
    that it was searched for. `objective`: mean paired difference of that weighting, in spreads; `gains`: of
    each reward and judge, in its units. `on_front`: no other point has at least as much of every reward and
    more of one.
    """

    number: int
    calibration: str
    shares: dict[str, float]
    objective: Interval
    gains: dict[str, Interval]
    on_front: bool


class Front(Frozen):
    """A judged front. `rewards`: what it is over; +1 where more is better, −1 where less is. `spread`: of
    each reward on the base. `hypervolume`: between the base and the points that beat it in every reward, in
    spreads. `pairs`: held-out pairs that each point was judged on.
    """

    format: Literal["calibri-front/1"] = FORMAT
    rewards: dict[str, int]
    spread: dict[str, float]
    generation: int
    images: int
    pairs: int
    hypervolume: float
    points: tuple[FrontPoint, ...]

    @property
    def best(self) -> tuple[FrontPoint, ...]:
        """The points on the front."""
        return tuple(point for point in self.points if point.on_front)


def join_front(points: Sequence[PointRecord], base: BaseRecord, signs: dict[str, int], images: int) -> Front:
    """The front of judged points. `signs`: reward → +1 or −1; `images`: of the search."""
    gains = np.array([[sign * p.gains[name].mean for name, sign in signs.items()] for p in points])
    spread = {name: base.spread[name] for name in signs}
    best = on_front(gains) if len(points) else np.zeros(0, dtype=bool)
    return Front(
        rewards=signs,
        spread=spread,
        generation=points[0].generation if points else 0,
        images=images,
        pairs=points[0].objective.n if points else 0,
        hypervolume=hypervolume(gains / np.array(list(spread.values()))) if len(points) else 0.0,
        points=tuple(
            FrontPoint(
                number=point.number,
                calibration=file_of(point.number),
                shares=point.shares,
                objective=point.objective,
                gains=point.gains,
                on_front=bool(is_best),
            )
            for point, is_best in zip(points, best, strict=True)
        ),
    )


def file_of(number: int) -> str:
    """The calibration of a point, from the run's folder."""
    return f"{FOLDER}/{number}.json"


def add_front(
    result: ResultRecord,
    points: Sequence[PointRecord],
    base: BaseRecord | None,
    shipment: Shipment,
    folder: Path,
) -> ResultRecord:
    """Writes `front.json` and the calibrations of its points, as far as they were judged, and says so in the
    result. `shipment`: what the run keeps.
    """
    if not points or base is None:
        (folder / FRONT).unlink(missing_ok=True)  # that of an earlier session is no longer what the run says
        return result
    signs = {term.name: 1 if term.weight > 0 else -1 for term in shipment.config.rewards}
    front = join_front(points, base, signs, shipment.images)
    (folder / FOLDER).mkdir(exist_ok=True)
    for point in points:
        one = replace(shipment, vector=np.array(point.vector), shares=point.shares)
        text = one.calibration(point.objective.verdict, point.gains).to_json()
        write_whole(folder / file_of(point.number), text, durable=True)
    write_whole(folder / FRONT, front.model_dump_json(indent=1) + "\n", durable=True)
    equal = result.text[0].lower() + result.text[1:]
    told = f"{len(front.best)} of {len(points)} points are on the front. At equal weights: {equal}"
    images = result.judgement_images + sum(point.images for point in points)
    return result.model_copy(update={"text": told, "judgement_images": images})


def read_front(folder: str | Path) -> Front:
    """The front of a run. Raises ArtifactError where there is none, or where it is damaged."""
    path = Path(folder) / FRONT
    try:
        return Front.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{folder} has no {FRONT}: it is written when a search with --front was judged"
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        words = sentence(error) if isinstance(error, ValidationError) else str(error)
        raise ArtifactError(f"{FRONT} is not a front: {words}") from error


def judge_points(
    bench: Bench,
    points: np.ndarray,
    known: Sequence[PointRecord],
    equal: Judgement,
    generation: int,
) -> Iterator[PointRecord]:
    """Judges the points of a front, (K, n), one after the other, but for those that are `known`. `equal`: the
    judgement of the point of equal shares, which the run keeps.
    """
    config = bench.objective.config
    shares = shares_of(config)
    weights, middle = weights_of(config, shares), place_of_equal(shares)
    done = {point.number for point in known}
    for place, vector in enumerate(points):
        if place + 1 in done:
            continue
        judged = replace(equal, images=0) if place == middle else bench.judge(vector, weights[place])
        yield PointRecord(
            generation=generation,
            number=place + 1,
            shares=dict(zip(bench.objective.names, shares[place].tolist(), strict=True)),
            vector=vector.tolist(),
            objective=judged.objective,
            gains=judged.gains,
            images=judged.images,
        )
