"""A run as TensorBoard reads it. Needs the extra `tensorboard`; TensorFlow is not needed.

The step of every scalar is images used, as on all charts here; its time is when it was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from calibri.errors import SearchError
from calibri.search.journal import JournalTail, read_journal
from calibri.search.records import GenerationRecord, Record, ResultRecord, SessionRecord, ValidationRecord

MISSING = "Expected the package tensorboard, got none: pip install 'calibri-studio[tensorboard]'"


class Scalar(NamedTuple):
    """One number. `seconds`: of work since the search began."""

    tag: str
    step: int
    seconds: float
    value: float


def list_scalars(records: Sequence[Record]) -> Iterator[Scalar]:
    """All numbers of a run in order: gains and their intervals, sigma, axis ratio, scales, validations,
    and the judgement at the end."""
    labels: list[str] = []
    for record in records:
        match record:
            case SessionRecord():
                labels = record.labels or labels
            case GenerationRecord():
                gain = record.bucket_mean
                told = {
                    "gain/mean of candidates": gain.mean,
                    "gain/low": gain.low,
                    "gain/high": gain.high,
                    "gain/best candidate": record.best,
                    "search/sigma": record.sigma,
                    "search/axis ratio": record.axis_ratio,
                }
                told |= {f"scales/{name}": value for name, value in zip(labels, record.mean)}
                told |= {f"spread/{name}": value for name, value in zip(labels, record.spread)}
                for tag, value in told.items():
                    yield Scalar(tag, record.images, record.seconds, value)
            case ValidationRecord():
                gains = {"objective": record.objective, **record.rewards}
                for name, gain in gains.items():
                    yield Scalar(f"validation/{name}", record.images, record.seconds, gain.mean)
            case ResultRecord():
                gains = {**({"objective": record.objective} if record.objective else {}), **record.gains}
                for name, gain in gains.items():
                    for tag, value in (("", gain.mean), (" low", gain.low), (" high", gain.high)):
                        yield Scalar(f"held-out/{name}{tag}", record.images, record.seconds, value)
            case _:
                pass


def write_events(run: str | Path, folder: Path) -> int:
    """Write a run into `folder`, which becomes one run of TensorBoard's. Returns how many numbers.

    Raises SearchError without the package and for a folder that holds events already, JournalError.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise SearchError(MISSING) from error
    records = read_journal(run)
    if folder.is_dir() and any(folder.glob("*tfevents*")):
        raise SearchError(f"{folder.name} holds events already. Choose another folder.")
    began = next((record.time for record in records if isinstance(record, SessionRecord)), "")
    start = datetime.fromisoformat(began).timestamp() if began else 0.0
    writer, count = EventFileWriter(str(folder)), 0
    try:
        config = JournalTail(run).config()
        if config is not None:
            writer.add_event(_text(Event, Summary, config.to_json(), start))
        for scalar in list_scalars(records):
            value = Summary.Value(tag=scalar.tag, simple_value=scalar.value)
            event = Event(wall_time=start + scalar.seconds, step=scalar.step, summary=Summary(value=[value]))
            writer.add_event(event)
            count += 1
    finally:
        writer.close()
    return count


def _text(event: Any, summary: Any, text: str, time: float) -> Any:
    """The settings as TensorBoard's tab Text shows them."""
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    tensor = TensorProto(dtype=DT_STRING, string_val=[f"```\n{text}\n```".encode()])
    about = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    value = summary.Value(tag="settings", metadata=about, tensor=tensor)
    return event(wall_time=time, step=0, summary=summary(value=[value]))
