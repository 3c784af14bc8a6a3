"""What a person sees of a search in a terminal, and what a machine reads."""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from calibri.search.config import Budget, SearchConfig
from calibri.search.records import (
    BaseRecord,
    EventRecord,
    GenerationRecord,
    Record,
    ResultRecord,
    SessionRecord,
    ValidationRecord,
)
from calibri.words import duration

BULKY = {"candidates", "base_scores", "objectives", "pairs"}


class JsonView:
    """One JSON object a line for each new record, without the bulk that only the journal needs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def replayed(self, record: Record) -> None:
        pass

    def show(self, record: Record) -> None:
        exclude = BULKY - {"pairs"} if isinstance(record, BaseRecord) else BULKY
        print(json.dumps(record.model_dump(mode="json", exclude=exclude), ensure_ascii=False), flush=True)

    def progress(self, done: int, total: int) -> None:
        pass


def live_view(config: SearchConfig, folder: Path) -> LinesView | PanelView:
    """A panel that redraws itself in a terminal, plain lines elsewhere."""
    return PanelView(config, folder) if sys.stdout.isatty() else LinesView(config, folder)


class _Story:
    """The state of a search as told by its records."""

    def __init__(self, config: SearchConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.budget = Budget()
        self.base: BaseRecord | None = None
        self.last: GenerationRecord | None = None
        self.validation: ValidationRecord | None = None
        self.result: ResultRecord | None = None
        self.events: deque[str] = deque(maxlen=3)
        self._pace: deque[tuple[int, float]] = deque(maxlen=20)

    def take(self, record: Record, *, replayed: bool = False) -> None:
        match record:
            case SessionRecord():
                self.budget = Budget(
                    images=record.images_limit,
                    minutes=record.minutes_limit,
                    generations=record.generations_limit,
                )
                self._pace.clear()
            case BaseRecord():
                self.base = record
            case GenerationRecord():
                self.last = record
            case ValidationRecord():
                self.validation = record
            case ResultRecord():
                self.result = record
            case EventRecord():
                self.events.append(record.text)
        if isinstance(record, BaseRecord | GenerationRecord | ValidationRecord) and not replayed:
            self._pace.append((record.images, record.seconds))

    @property
    def speed(self) -> float | None:
        """Images a second, of late."""
        if len(self._pace) < 2:
            return None
        (i0, s0), (i1, s1) = self._pace[0], self._pace[-1]
        return (i1 - i0) / (s1 - s0) if s1 > s0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until the first limit is reached; None if no limit or no speed is known."""
        if self.last is None:
            return None
        left = []
        if self.budget.minutes is not None:
            left.append(60 * self.budget.minutes - self.last.seconds)
        if self.budget.images is not None and self.speed:
            left.append((self.budget.images - self.last.images) / self.speed)
        if self.budget.generations is not None and len(self._pace) > 1:
            each = (self._pace[-1][1] - self._pace[0][1]) / (len(self._pace) - 1)
            left.append((self.budget.generations - self.last.generation - 1) * each)
        return max(0.0, min(left)) if left else None

    def rows(self) -> list[tuple[str, str]]:
        """What to show, label and value."""
        rows = []
        if (last := self.last) is not None:
            limit = f" of {self.budget.images:,}" if self.budget.images else ""
            pace = f", {self.speed:.1f} a second" if self.speed else ""
            rest = self.seconds_left
            left = "" if rest is None else f", {duration(rest, exact=True)} left"
            rows += [
                ("generation", str(last.generation + 1)),
                ("images", f"{last.images:,}{limit}{pace}"),
                ("time", f"{duration(last.seconds, exact=True)}{left}"),
                ("best candidate", f"{last.best:+.3f}"),
                ("all candidates", last.bucket_mean.text()),
                ("sigma", f"{last.sigma:.4f}   axis ratio {last.axis_ratio:.2f}"),
            ]
        if (validation := self.validation) is not None:
            rows.append(("validation", f"{validation.objective.text()} on {validation.objective.n} pairs"))
        return rows


class LinesView:
    """A line for each record."""

    def __init__(self, config: SearchConfig, folder: Path) -> None:
        self.story = _Story(config, folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def replayed(self, record: Record) -> None:
        self.story.take(record, replayed=True)

    def progress(self, done: int, total: int) -> None:
        pass

    def show(self, record: Record) -> None:
        self.story.take(record)
        if isinstance(record, ResultRecord):
            print(summary(record, self.story.folder), flush=True)
        elif isinstance(record, EventRecord):
            print(record.text, flush=True)
        elif isinstance(record, GenerationRecord):
            print("  ".join(f"{label} {value}" for label, value in self.story.rows()), flush=True)


class PanelView:
    """A panel in the terminal, redrawn as records and batches arrive."""

    def __init__(self, config: SearchConfig, folder: Path) -> None:
        self.story = _Story(config, folder)
        self._done, self._total = 0, 0
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
        if self.story.result is not None and kind is None:
            print(summary(self.story.result, self.story.folder))

    def replayed(self, record: Record) -> None:
        self.story.take(record, replayed=True)

    def show(self, record: Record) -> None:
        self.story.take(record)
        self._done = self._total = 0

    def progress(self, done: int, total: int) -> None:
        self._done, self._total = done, total

    def _panel(self) -> Any:
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        config = self.story.config
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column()
        for label, value in self.story.rows() or [("", "rendering the base …")]:
            table.add_row(label, value)
        for text in self.story.events:
            table.add_row("", Text(text, style="dim"))
        parts: list[Any] = [table]
        if self._total:
            parts.append(ProgressBar(total=self._total, completed=self._done, width=40))
            parts.append(Text(f"{self._done} of {self._total} pictures of this batch of work", style="dim"))
        rewards = ", ".join(term.text for term in config.rewards)
        title = f"{config.backbone} · {config.granularity} · {rewards} · {config.steps} steps"
        return Panel(Group(*parts), title=title, subtitle=str(self.story.folder), title_align="left")


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
    if result.calibration:
        lines.append(f"Calibration: {folder / result.calibration}")
    return "\n".join(lines)
