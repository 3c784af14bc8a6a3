"""What a search says while it runs: typed records, one JSON line each in the journal."""

from __future__ import annotations

import base64
import re
from array import array
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from calibri.errors import JournalError, sentence
from calibri.files import load_json
from calibri.interval import Interval, Verdict
from calibri.rewards.base import Frozen
from calibri.rewards.scoring import Pair


class SessionRecord(Frozen):
    """One process began to write: the first, or one that resumed. Does not touch the trajectory."""

    kind: Literal["session"] = "session"
    time: str
    pid: int
    host: str
    generation: int  # at which it begins
    images_limit: int | None = None
    minutes_limit: float | None = None
    generations_limit: int | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    fingerprint: str = ""
    labels: list[str] = Field(default_factory=list)  # of the searched numbers, in order
    rewards: dict[str, str] = Field(default_factory=dict)  # name → revision
    sources: dict[str, str] = Field(default_factory=dict)  # name → hub id with commit, or name of a folder


class EventRecord(Frozen):
    """A sentence for the log."""

    kind: Literal["event"] = "event"
    time: str
    text: str


class BaseRecord(Frozen):
    """The base on the first pairs: what each reward is divided by.

    `spread`: standard deviation over pairs, of each reward. `total_spread`: of their weighted sum.
    `temperatures`: of the win rate, for each reward, empty for other objectives. `alphas`: of the win rate,
    for rewards that are probabilities. `base_scores`: raw, (pairs, samples, rewards), of the search's first
    pairs.
    """

    kind: Literal["base"] = "base"
    pairs: int
    means: dict[str, float]
    spread: dict[str, float]
    total_spread: float
    temperatures: dict[str, float] = Field(default_factory=dict)
    alphas: dict[str, float] = Field(default_factory=dict)
    base_scores: list[list[list[float]]]
    images: int
    seconds: float


class GenerationRecord(Frozen):
    """One generation of `popsize` candidates of n numbers on a bucket of B pairs.

    `candidates`: (popsize, n) float64, little-endian, base64: exact and short. `scores`: what the optimiser
    was told, (popsize,). `objective`: mean objective of each candidate over the pairs that it saw.
    `rewards`: mean difference from the base for each reward and candidate, in the reward's units.
    `base_scores`: raw, (B, samples, rewards). `bucket_mean`: the objective's mean over candidates, in pairs
    with the base (0 is the base; 0.5 for a win rate). `mean`, `spread`: centre and standard deviation of
    the distribution after the generation, (n,). `point`: what would be kept after it, (n,), where that is
    not the tail average of the means.
    """

    kind: Literal["generation"] = "generation"
    generation: int
    images: int
    seconds: float
    bucket: list[int]
    pairs: list[Pair]
    candidates: str
    scores: list[float]
    objective: list[float]
    rewards: dict[str, list[float]]
    base_scores: list[list[list[float]]]
    bucket_mean: Interval
    best: float
    sigma: float
    axis_ratio: float
    mean_rate: float
    mean: list[float]
    spread: list[float]
    point: list[float] = Field(default_factory=list)

    def candidate_array(self) -> np.ndarray:
        """The candidates, (popsize, n) float64."""
        return unpack(self.candidates, len(self.scores))


class ValidationRecord(Frozen):
    """The point reached against the base on the fixed validation pairs, in pairs. `rewards`: of rewards and
    judges. `judged`: differences of each judge from the base, of each pair."""

    kind: Literal["validation"] = "validation"
    generation: int
    images: int
    seconds: float
    objective: Interval
    rewards: dict[str, Interval]
    objectives: list[float]  # of each pair; the convergence rule compares them between checkpoints
    judged: dict[str, list[float]] = Field(default_factory=dict)
    base_scores: list[list[float]]  # raw, (pairs, rewards and judges), in the first of a run; else empty
    spent: int  # pictures that this validation rendered


class PointRecord(Frozen):
    """One point of a front against the base, on the held-out pairs.

    `number`: from 1. `shares`: of the rewards in its weighting. `vector`: (n,). `objective`: mean paired
    difference of the weighted rewards, in spreads; `gains`: of each reward and judge. `images`: rendered to
    judge it.
    """

    kind: Literal["point"] = "point"
    generation: int
    number: int
    shares: dict[str, float]
    vector: list[float]
    objective: Interval
    gains: dict[str, Interval]
    images: int


def share_words(shares: dict[str, float]) -> str:
    """`tabletop-align 67 %, tabletop-keep 33 %`: what a point of a front is for, the most first."""
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in ordered if share > 0)


class BlindSpot(Frozen):
    """A held-out pair on which the objective rose, by `gain` spreads of the base, while `judge` fell, by
    `fall` (below 0, in the judge's units)."""

    prompt: str
    seed: int
    gain: float
    judge: str
    fall: float


class ResultRecord(Frozen):
    """The end of a search (of this session, if it is resumed with more budget).

    `verdict`: "better", "not told apart" or "worse", of the objective's interval on held-out pairs, or "not
    judged". `gains`: mean paired difference of each reward and judge. `calibration`: file of what is
    shipped, None if nothing is. `blind_spots`: where the reward rose most while a judge fell, the most first.
    """

    kind: Literal["result"] = "result"
    time: str
    reason: str
    generation: int
    images: int
    seconds: float
    verdict: Verdict | Literal["not judged"]
    objective: Interval | None
    gains: dict[str, Interval]
    judges: list[str]
    vector: list[float]
    calibration: str | None
    judgement_images: int
    text: str
    blind_spots: list[BlindSpot] = Field(default_factory=list)


Record = (
    SessionRecord
    | EventRecord
    | BaseRecord
    | GenerationRecord
    | ValidationRecord
    | PointRecord
    | ResultRecord
)
_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def record_from(data: dict) -> Record:
    """The record that `data` describes. Raises JournalError."""
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        raise JournalError(f"not a record of a search: {sentence(error)}") from error


class Generation(NamedTuple):
    """A GenerationRecord without its candidates and pairs, which are most of it: what a long search takes in
    memory. `mean`, `spread`: (n,) float64; `point`: (n,) or empty."""

    generation: int
    images: int
    seconds: float
    best: float
    bucket_mean: Interval
    sigma: float
    axis_ratio: float
    mean_rate: float
    mean: array[float]
    spread: array[float]
    point: array[float]


_HEAD = re.compile(rb'\{"kind":"generation","generation":(\d+),"images":(\d+),"seconds":([-+.\deE]+),')
_REST = b'"bucket_mean":'  # from here to its end a line holds what is kept of a generation


def read_generation(body: bytes) -> Generation:
    """A generation from the JSON text of its record. Raises JournalError for another record."""
    head, rest = _HEAD.match(body), body.rfind(_REST)
    if head is not None and rest >= 0:
        data = load_json("{" + body[rest:].decode())  # the candidates before it are not parsed
        data |= {"generation": int(head[1]), "images": int(head[2]), "seconds": float(head[3])}
    else:
        record = record_from(load_json(body.decode()))
        if not isinstance(record, GenerationRecord):
            raise JournalError(f"expected a generation, got {record.kind}")
        data = record.model_dump()
    data["bucket_mean"] = Interval(**data["bucket_mean"])
    for name in ("mean", "spread", "point"):
        data[name] = array("d", data.get(name, ()))
    return Generation(**{name: data[name] for name in Generation._fields})


def pack(rows: np.ndarray) -> str:
    """(rows, n) float64 → base64 of its little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(rows, dtype="<f8").tobytes()).decode()


def unpack(text: str, rows: int) -> np.ndarray:
    """The inverse of `pack`. Raises JournalError if the bytes do not make `rows` rows."""
    try:
        flat = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f8")
        return flat.reshape(rows, -1).astype(np.float64)
    except ValueError as error:
        raise JournalError(f"candidates do not make {rows} rows of numbers: {error}") from error
