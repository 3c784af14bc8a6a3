"""A few pairs for the report, with both pictures: those on which raters agree most and least."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from calibri.words import count
from studio.studies.results.analysis import Analysis
from studio.studies.storage.picture_store import ImageStore, PictureGone

SHOWN = 3  # pairs of each sort
SIDE = 384  # px: larger pictures are made smaller, so that a report can be mailed
RULE = (
    f"The {SHOWN} most clear-cut pairs have the largest difference between votes for one picture and for the "
    f"other; of the rest, the {SHOWN} most split ones have the smallest, as a share of these votes. Pairs "
    "with fewer than two votes for a side are left out, gold pairs and repeats do not count, and of equals "
    "those with more votes come first. Only votes on the first question count here."
)


@dataclass(frozen=True)
class ExamplePicture:
    """One side of a pair. `data`: an address that holds the picture itself."""

    arm: str
    votes: int
    data: str


@dataclass(frozen=True)
class ExamplePair:
    """One pair with what raters said of it."""

    prompt: str
    said: str
    sides: tuple[ExamplePicture, ExamplePicture]


@dataclass(frozen=True)
class Examples:
    """What a report shows, and by which rule it was chosen."""

    clear: tuple[ExamplePair, ...] = ()
    split: tuple[ExamplePair, ...] = ()
    rule: str = RULE


@dataclass(frozen=True)
class _Voted:
    row: dict[str, Any]
    answers: Counter[str]

    @property
    def decided(self) -> int:
        return self.answers["x"] + self.answers["y"]

    @property
    def margin(self) -> int:
        return abs(self.answers["x"] - self.answers["y"])


def choose_pairs(analysis: Analysis, rows: Sequence[dict[str, Any]]) -> tuple[list[_Voted], list[_Voted]]:
    """(clear-cut, split) pairs by RULE, of the category and the raters that the filter leaves."""
    question = next((q.id for q in analysis.study.protocol.questions if q.id in analysis.tables), "")
    flagged = {r.rater for r in analysis.flagged} if analysis.filter.without_flagged else set()
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        fits = row["valid"] and row["kind"] == "real" and row["question"] == question
        if fits and analysis.filter.category in ("", row["category"] or "") and row["rater"] not in flagged:
            found[row["pair"]].append(row)
    voted = [_Voted(mine[0], Counter(row["winner"] for row in mine)) for mine in found.values()]
    voted = [pair for pair in voted if pair.decided >= 2]
    clear = sorted(voted, key=lambda p: (-p.margin, -p.decided, p.row["pair"]))[:SHOWN]
    clear = [pair for pair in clear if pair.margin]
    rest = [pair for pair in voted if pair not in clear]
    split = sorted(rest, key=lambda p: (p.margin / p.decided, -p.decided, p.row["pair"]))[:SHOWN]
    return clear, split


def make_examples(analysis: Analysis, rows: Sequence[dict[str, Any]], images: ImageStore) -> Examples:
    """The pairs of a report with their pictures; those whose files are gone are left out."""
    clear, split = choose_pairs(analysis, rows)
    return Examples(_draw(clear, images), _draw(split, images))


def _draw(pairs: Sequence[_Voted], images: ImageStore) -> tuple[ExamplePair, ...]:
    drawn = []
    for pair in pairs:
        row, answers = pair.row, pair.answers
        try:
            x, y = (_embed(images, row[f"image_{side}"]) for side in ("x", "y"))
        except PictureGone:
            continue
        sides = (
            ExamplePicture(row["arm_x"], answers["x"], x),
            ExamplePicture(row["arm_y"], answers["y"], y),
        )
        rest = sum(answers.values()) - pair.decided
        said = f"{answers['x']} to {answers['y']}" + (f", {count(rest, 'other answer')}" if rest else "")
        drawn.append(ExamplePair(row["prompt"], said, sides))
    return tuple(drawn)


def _embed(images: ImageStore, sha256: str | None) -> str:
    """A picture as an address that holds it. Raises PictureGone."""
    from PIL import Image

    if not sha256:
        raise PictureGone("This pair has no pictures.")
    image, out = images.open(sha256), BytesIO()
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        image.save(out, "JPEG", quality=90)
        kind = "jpeg"
    else:
        image.save(out, "PNG")
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
