"""Real run folders of any length without rendering, for tests and benchmarks: written by the journal's own
lines."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from calibri.files import write_whole
from calibri.interval import Interval
from calibri.rewards.scoring import Pair
from calibri.search.config import SearchConfig
from calibri.search.journal import CONFIG, JOURNAL, _line
from calibri.search.records import BaseRecord, GenerationRecord, Record, SessionRecord, ValidationRecord, pack

EACH = 12 * 8  # images of one generation


def config(**values: object) -> SearchConfig:
    defaults = {
        "rewards": ({"name": "tabletop-align"}, {"name": "tabletop-quality"}),
        "prompts": tuple(f"a red cube left of a blue ball {i}" for i in range(64)),
        "validation_prompts": ("a green cone", "a yellow cylinder"),
    }
    return SearchConfig.make(**{**defaults, **values})


def labels(scales: int) -> list[str]:
    """Names like a layout's: attention and MLP of each double block."""
    return [f"double.{i // 2}.{'mlp' if i % 2 else 'attn'}" for i in range(scales)]


def generation(number: int, scales: int, candidates: int = 12) -> GenerationRecord:
    rng = np.random.default_rng(number)
    mean = 1 + 0.2 * np.sin(np.arange(scales) + number / 500)
    gain = 1 - np.exp(-number / 300) + rng.normal(0, 0.05)
    return GenerationRecord(
        generation=number,
        images=64 + (number + 1) * EACH,
        seconds=10.0 + number,
        bucket=list(range(8)),
        pairs=[Pair(prompt="a red cube left of a blue ball", seed=i) for i in range(8)],
        candidates=pack(mean + rng.normal(0, 0.1, (candidates, scales))),
        scores=rng.normal(gain, 0.1, candidates).tolist(),
        objective=rng.normal(gain, 0.1, candidates).tolist(),
        rewards={name: rng.normal(0, 1, candidates).tolist() for name in ("align", "quality")},
        base_scores=rng.normal(0, 1, (8, 1, 2)).tolist(),
        bucket_mean=Interval(mean=gain, low=gain - 0.1, high=gain + 0.1, n=8),
        best=gain + 0.2,
        sigma=0.1 / (1 + number / 1000),
        axis_ratio=1 + number / 1000,
        mean_rate=0.5,
        mean=mean.tolist(),
        spread=(0.1 + 0.01 * rng.random(scales)).tolist(),
    )


class Writer:
    """Appends records to the journal of a new run folder. The run is nobody's: no lock is held."""

    def __init__(self, folder: Path, made: SearchConfig | None = None, scales: int = 16) -> None:
        self.folder, self.scales = folder, scales
        folder.mkdir(parents=True)
        write_whole(folder / CONFIG, (made or config()).to_json(), durable=True)
        self._prev = hashlib.sha256((folder / CONFIG).read_bytes()).hexdigest()
        self.put(
            SessionRecord(
                time="2026-01-02T03:04:05+00:00",
                pid=1,
                host="there",
                generation=0,
                images_limit=2_000_000,
                labels=labels(scales),
            )
        )
        self.put(
            BaseRecord(
                pairs=64,
                means={"align": 1.0, "quality": 2.0},
                spread={"align": 1.0, "quality": 1.0},
                total_spread=1.4,
                base_scores=[[[0.0, 0.0]]] * 64,
                images=64,
                seconds=9.0,
            )
        )

    def put(self, *records: Record) -> None:
        with open(self.folder / JOURNAL, "ab") as file:
            for record in records:
                data, self._prev = _line(record, self._prev)
                file.write(data)

    def generations(self, first: int, last: int) -> None:
        self.put(*(generation(number, self.scales) for number in range(first, last)))

    def validation(self, after: int) -> None:
        gain = Interval(mean=0.5, low=0.4, high=0.6, n=64)
        self.put(
            ValidationRecord(
                generation=after,
                images=64 + after * EACH,
                seconds=10.0 + after,
                objective=gain,
                rewards={"align": gain},
                objectives=[0.5] * 64,
                base_scores=[],
                spent=64,
            )
        )
