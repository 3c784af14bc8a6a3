"""What a person sees of a search in a terminal, and what a machine reads."""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from calibri.search.config import SearchConfig
from calibri.search.front_file import FRONT
from calibri.search.progress import SearchProgress
from calibri.search.records import (
    BaseRecord,
    EventRecord,
    GenerationRecord,
    PointRecord,
    Record,
    ResultRecord,
    ValidationRecord,
    share_words,
)
from calibri.search.spot_pictures import FOLDER
from calibri.words import count, duration

BULKY = {"candidates", "base_scores", "objectives", "judged", "pairs"}


class JsonView:
    """One JSON object a line for each new record, without the bulk that only the journal needs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def replay(self, record: Record) -> None:
        pass

    def show(self, record: Record) -> None:
        exclude = BULKY - {"pairs"} if isinstance(record, BaseRecord) else BULKY
        print(json.dumps(record.model_dump(mode="json", exclude=exclude), ensure_ascii=False), flush=True)

    def progress(self, done: int, total: int) -> None:
        pass


def live_view(config: SearchConfig, folder: Path) -> LinesView | PanelView:
    """A panel that redraws itself in a terminal, plain lines elsewhere."""
    return PanelView(config, folder) if sys.stdout.isatty() else LinesView(config, folder)


def rows(search: SearchProgress) -> list[tuple[str, str]]:
    """What to show of a search, label and value."""
    found = []
    if (last := search.last) is not None:
        budget = search.budget
        limit = f" of {budget.images:,}" if budget is not None and budget.images else ""
        pace = f", {search.speed:.1f} a second" if search.speed else ""
        rest = search.seconds_left()
        left = "" if rest is None else f", {duration(rest, exact=True)} left"
        found += [
            ("generation", str(last.generation + 1)),
            ("images", f"{last.images:,}{limit}{pace}"),
            ("time", f"{duration(last.seconds, exact=True)}{left}"),
            ("best candidate", f"{last.best:+.3f}"),
            ("all candidates", last.bucket_mean.text()),
            ("sigma", f"{last.sigma:.4f}   axis ratio {last.axis_ratio:.2f}"),
        ]
    if search.validations:
        objective = search.validations[-1].objective
        found.append(("validation", f"{objective.text()} on {objective.n} pairs"))
        told = search.validations[-1]
        found += [(f"judge {name}", told.rewards[name].text()) for name in told.judged]
    return found


class LinesView:
    """A line for each record."""

    def __init__(self, config: SearchConfig, folder: Path) -> None:
        self.search, self.folder = SearchProgress(config), folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def replay(self, record: Record) -> None:
        self.search.take(record)

    def progress(self, done: int, total: int) -> None:
        pass

    def show(self, record: Record) -> None:
        self.search.take(record)
        if isinstance(record, ResultRecord):
            print(summary(record, self.folder), flush=True)
        elif isinstance(record, EventRecord):
            print(record.text, flush=True)
        elif isinstance(record, ValidationRecord):
            print("\n".join(fall.text for fall in self.search.falls), end="\n" * bool(self.search.falls))
        elif isinstance(record, PointRecord):
            print(point_words(record), flush=True)
        elif isinstance(record, GenerationRecord):
            print("  ".join(f"{label} {value}" for label, value in rows(self.search)), flush=True)


class PanelView:
    """A panel in the terminal, redrawn as records and batches arrive."""

    def __init__(self, config: SearchConfig, folder: Path) -> None:
        self.search, self.folder = SearchProgress(config), folder
        self._done, self._total = 0, 0
        self._events: deque[str] = deque(maxlen=3)
        self._live: Any = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(get_renderable=self._panel, refresh_per_second=4)
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)
        if self.search.result is not None and kind is None:
            print(
                "\n".join([*map(point_words, self.search.points), summary(self.search.result, self.folder)])
            )

    def replay(self, record: Record) -> None:
        self.search.take(record)
        if isinstance(record, EventRecord):
            self._events.append(record.text)

    def show(self, record: Record) -> None:
        self.replay(record)
        self._done = self._total = 0

    def progress(self, done: int, total: int) -> None:
        self._done, self._total = done, total

    def _panel(self) -> Any:
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        config = self.search.config
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column()
        for label, value in rows(self.search) or [("", "rendering the base …")]:
            table.add_row(label, value)
        for fall in self.search.falls:
            table.add_row("warning", Text(fall.text, style="bold red"))
        for text in self._events:
            table.add_row("", Text(text, style="dim"))
        parts: list[Any] = [table]
        if self._total:
            parts.append(ProgressBar(total=self._total, completed=self._done, width=40))
            parts.append(Text(f"{self._done} of {self._total} pictures of this batch of work", style="dim"))
        rewards = ", ".join(term.text for term in config.rewards)
        title = f"{config.backbone} · {config.granularity} · {rewards} · {config.steps} steps"
        return Panel(Group(*parts), title=title, subtitle=str(self.folder), title_align="left")


def point_words(point: PointRecord) -> str:
    """A judged point of a front in a line."""
    gains = "  ".join(f"{name} {gain.text()}" for name, gain in point.gains.items())
    return f"Point {point.number}, {share_words(point.shares)}: {gains}"


def summary(result: ResultRecord, folder: Path) -> str:
    """The end of a search in a few lines."""
    lines = [
        f"Stopped: {result.reason} ({result.generation} generations, {result.images:,} images, "
        f"{duration(result.seconds, exact=True)}).",
        result.text,
    ]
    for name, gain in result.gains.items():
        kind = "judge " if name in result.judges else "reward"
        lines.append(f"  {kind} {name}: {gain.text()}")
    if result.blind_spots:
        first = result.blind_spots[0]
        lines.append(
            f"Blind spots: {count(len(result.blind_spots), 'held-out picture')} on which the reward rose "
            f"while a judge fell, the most on {first.prompt!r} (seed {first.seed}); pictures in "
            f"{folder / FOLDER}"
        )
    if result.calibration:
        lines.append(f"Calibration: {folder / result.calibration}")
    if (folder / FRONT).exists():
        lines.append(f"Front: {folder / FRONT}")
    return "\n".join(lines)
