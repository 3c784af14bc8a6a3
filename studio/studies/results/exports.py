"""Votes as files: one row a vote with arms resolved, pairs for preference training, whole studies."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from calibri.errors import StudyError
from calibri.files import replacing
from studio.studies.results.analysis import Analysis
from studio.studies.results.examples import make_examples
from studio.studies.results.reports import to_html, to_markdown
from studio.studies.storage.database import Database
from studio.studies.storage.picture_store import ImageStore
from studio.studies.storage.vote_store import RESOLVED

#: In this order in every format. Rater ids are keyed hashes, and the key never leaves the studio.
_NAMES = (
    "id study question prompt seed category kind pair arm_x arm_y left_is_x side winner winning_arm image_x "
    "image_y rater response_ms shown_ms server_ms comment time valid"
)
COLUMNS = tuple(_NAMES.split())
BOM = "\ufeff"  # by which spreadsheets know that a file is UTF-8
FORMATS = ("csv", "csv-bom", "jsonl", "parquet", "preferences", "zip")
FORMULA = ("=", "+", "-", "\u2212", "@")  # full-width and small signs are taken for these
UNSEEN = ("Z", "C")  # Unicode categories of spaces and of what is not shown


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """CSV with a header. Texts that a spreadsheet might read as a formula get an apostrophe in front."""
    lines = [COLUMNS, *([_cell(row[c]) for c in COLUMNS] for row in rows)]
    return "".join(_write_line(line) for line in lines)


def write_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Any table as CSV, with the same care."""
    return "".join(_write_line(line) for line in [head, *([_cell(value) for value in row] for row in rows)])


def _write_line(cells: Iterable[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)  # so that a lone CR in a text is quoted, too
    return out.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: Any) -> Any:
    value = _plain(value)
    return f"'{value}" if isinstance(value, str) and _may_be_formula(value) else value


def _may_be_formula(text: str) -> bool:
    """Whether some spreadsheet would calculate this: some skip spaces, and some take full-width signs."""
    if text[:1] in ("\t", "\r", "\n"):
        return True
    seen = next((c for c in text if unicodedata.category(c)[0] not in UNSEEN), "")
    return unicodedata.normalize("NFKC", seen).startswith(FORMULA)


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") + "Z" if hasattr(value, "isoformat") else value


def to_jsonl(rows: Iterable[dict[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(
        json.dumps({c: _plain(row[c]) for c in COLUMNS}, ensure_ascii=False) + "\n" for row in rows
    )


def to_preferences(rows: Iterable[dict[str, Any]], flagged: frozenset[str] = frozenset()) -> str:
    """Chosen and rejected pictures: one JSON object for each valid vote for a side of a real pair."""
    lines = []
    for row in rows:
        if row["kind"] != "real" or not row["valid"] or row["winner"] not in ("x", "y"):
            continue
        win, lose = ("x", "y") if row["winner"] == "x" else ("y", "x")
        made = {
            "prompt": row["prompt"],
            "chosen": f"images/{row[f'image_{win}']}.png",
            "rejected": f"images/{row[f'image_{lose}']}.png",
            "chosen_arm": row[f"arm_{win}"],
            "rejected_arm": row[f"arm_{lose}"],
            "seed": row["seed"],
            "question": row["question"],
            "rater": row["rater"],
            "flagged_rater": row["rater"] in flagged,
            "vote": row["id"],
        }
        lines.append(json.dumps(made, ensure_ascii=False) + "\n")
    return "".join(lines)


def to_parquet(db: Database, study: str, path: Path) -> Path:
    """Every vote as Parquet, with DuckDB's own types."""
    query = RESOLVED.format(study="'" + study.replace("'", "''") + "'")
    with replacing(path) as part:
        target = str(part).replace("'", "''")
        db.run_outside(f"COPY (SELECT {', '.join(COLUMNS)} FROM ({query})) TO '{target}' (FORMAT parquet)")
    return path


def to_bom_csv(rows: Sequence[dict[str, Any]]) -> str:
    """As `to_csv`, with a byte-order mark: some spreadsheets read a file without one in an old encoding."""
    return BOM + to_csv(rows)


def to_zip(
    db: Database, images: ImageStore, analysis: Analysis, rows: Sequence[dict[str, Any]], path: Path
) -> Path:
    """Protocol, arms, votes in all formats, reports and pictures. Raises StudyError for an open study."""
    study = analysis.study
    if study.status not in ("closed", "archived"):
        raise StudyError("Close the study first: the whole study is exported when no more votes can come.")
    texts = {
        "protocol.json": study.protocol.model_dump_json(indent=1),
        "study.json": json.dumps(_about(analysis), indent=1, ensure_ascii=False),
        "votes.csv": to_csv(rows),
        "votes.jsonl": to_jsonl(rows),
        "preferences.jsonl": to_preferences(rows, frozenset(r.rater for r in analysis.flagged)),
        "report.md": to_markdown(analysis),
        "report.html": to_html(analysis, make_examples(analysis, rows, images)),
    }
    shown = db.read("SELECT DISTINCT unnest([image_x, image_y]) FROM pairs WHERE study = ?", [study.id])
    with (
        replacing(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as out,
        tempfile.TemporaryDirectory() as folder,
    ):
        for name, text in texts.items():
            out.writestr(name, text)
        out.write(to_parquet(db, study.id, Path(folder) / "votes.parquet"), "votes.parquet")
        for (sha256,) in sorted(row for row in shown if row[0]):
            out.writestr(zipfile.ZipInfo(f"images/{sha256}.png"), images.read(sha256))  # compressed already
    return path


def _about(analysis: Analysis) -> dict[str, Any]:
    study = analysis.study
    return {
        "id": study.id,
        "name": study.name,
        "seed": study.seed,
        "protocol_sha256": study.protocol.hash,
        "opened": _plain(study.opened),
        "closed": _plain(study.closed),
        "arms": [
            {
                "label": a.label,
                "kind": a.kind,
                "backbone": a.backbone,
                "settings": json.loads(a.settings),
                "calibration_sha256": a.calibration_hash,
                "calibration": json.loads(a.calibration) if a.calibration else None,
            }
            for a in analysis.arms
        ],
    }
