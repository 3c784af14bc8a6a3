"""Studies as the database stores them: the study, its arms, its pairs and what was rendered for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from calibri.errors import StudyError, sentence
from calibri.files import Unreadable
from calibri.words import count
from studio.studies.protocol import QUICK, Protocol
from studio.studies.storage.database import Database, Transaction

Status = Literal["draft", "open", "closed", "archived"]
ArmKind = Literal["base", "calibrated", "ensemble", "gold"]

#: State → the states that a study may change to.
NEXT: dict[str, tuple[str, ...]] = {
    "draft": ("open", "archived"),
    "open": ("closed",),
    "closed": ("open", "archived"),
    "archived": (),
}


NO_STUDY = "There is no such study."


def now() -> datetime:
    """The time in UTC without a zone, as DuckDB's TIMESTAMP stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Study:
    """One study. Times are UTC without a zone."""

    id: str
    name: str
    protocol: Protocol
    seed: int
    status: Status
    created: datetime
    opened: datetime | None = None
    closed: datetime | None = None

    @property
    def hides_results(self) -> bool:
        """Whether who wins is hidden still: while other people vote."""
        return self.status == "open" and self.protocol.preset != QUICK.preset


@dataclass(frozen=True)
class StudyArm:
    """One arm: what is rendered and how. `calibration`: the artefact's JSON; None for the base."""

    id: str
    study: str
    label: str
    kind: ArmKind
    backbone: str
    steps: int
    guidance: float = 1.0
    width: int | None = None
    height: int | None = None
    calibration: str | None = None
    calibration_hash: str | None = None
    place: int = 0
    loras: str = ""
    negative: str = ""
    embedded: float | None = None

    @property
    def settings(self) -> str:
        """Render settings as JSON with sorted keys. What says nothing is left out: recipes of before are the
        same."""
        found = {"steps": self.steps, "guidance": self.guidance, "width": self.width, "height": self.height}
        later = {"loras": self.loras, "negative": self.negative, "embedded": self.embedded}
        return json.dumps(found | {k: v for k, v in later.items() if v not in ("", None)}, sort_keys=True)

    def recipe(self, fingerprint: str, prompt: str, seed: int) -> str:
        """The hash of all that determines the pixels of one picture of this arm."""
        parts = [fingerprint, self.kind, self.calibration_hash, self.settings, prompt, seed]
        return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class StudyPair:
    """Two pictures of one prompt and seed. `image_x`, `image_y`: hashes in the image store, None until
    rendered.
    """

    id: str
    study: str
    prompt: str
    seed: int
    arm_x: str
    arm_y: str
    image_x: str | None = None
    image_y: str | None = None
    kind: Literal["real", "gold", "repeat"] = "real"
    repeat_of: str | None = None
    category: str = ""

    @property
    def is_rendered(self) -> bool:
        return self.image_x is not None and self.image_y is not None


@dataclass(frozen=True)
class Progress:
    """How far a study is. `wanted` is None where the protocol sets no number of votes."""

    pairs: int
    rendered: int
    raters: int
    showings: int
    wanted: int | None


class StudyStore:
    """Reads and writes studies, arms, pairs, images and renders."""

    def __init__(self, db: Database) -> None:
        self.db = db

    # reading

    def all(self, *statuses: Status) -> list[Study]:
        """Studies in these states (none named: all), the newest first."""
        marks = ", ".join("?" * len(statuses))
        where = f"WHERE status IN ({marks})" if statuses else ""
        rows = self.db.records(f"SELECT * FROM studies {where} ORDER BY created DESC, id", statuses)
        return [study for row in rows if isinstance(study := _read_study(row), Study)]

    def unreadable(self) -> list[Unreadable]:
        """Studies whose protocol cannot be read, and why."""
        rows = self.db.records("SELECT * FROM studies ORDER BY created DESC, id")
        return [found for row in rows if isinstance(found := _read_study(row), Unreadable)]

    def list_choices(self, *statuses: Status) -> list[tuple[str, str]]:
        """(words, id) of `all` for a field to choose from."""
        return [(f"{study.name} ({study.status})", study.id) for study in self.all(*statuses)]

    def find(self, study: object) -> Study | None:
        """The study of this id; None where there is none, or none any more."""
        if not isinstance(study, str):
            return None
        found = map(_read_study, self.db.records("SELECT * FROM studies WHERE id = ?", [study]))
        return next((known for known in found if isinstance(known, Study)), None)

    def get(self, study: object) -> Study:
        """The study of this id, or of this name where only one has it. Raises StudyError."""
        if not isinstance(study, str) or len(study) > 200:
            raise StudyError(NO_STUDY)
        rows = self.db.records("SELECT * FROM studies WHERE id = ? OR name = ?", [study, study])
        exact = [row for row in rows if row["id"] == study]
        if exact or len(rows) == 1:
            return _study((exact or rows)[0])
        raise StudyError(f"{len(rows)} studies have the name {study!r}. Use the id." if rows else NO_STUDY)

    def arms(self, study: str) -> list[StudyArm]:
        rows = self.db.records("SELECT * FROM arms WHERE study = ? ORDER BY place", [study])
        return [_arm(row) for row in rows]

    def pairs(self, study: str) -> list[StudyPair]:
        rows = self.db.records(f"SELECT {PAIR_COLUMNS} FROM pairs WHERE study = ? ORDER BY id", [study])
        return [StudyPair(**row) for row in rows]

    def progress(self, study: Study) -> Progress:
        """Counts for the organiser. Repeats do not count as pairs here."""
        [(pairs, rendered)] = self.db.read(
            "SELECT count(*), count(*) FILTER (WHERE image_x IS NOT NULL AND image_y IS NOT NULL) "
            "FROM pairs WHERE study = ? AND kind <> 'repeat'",
            [study.id],
        )
        [(showings, raters)] = self.db.read(
            "SELECT count(DISTINCT v.token), count(DISTINCT v.rater) FROM votes v WHERE v.study = ?",
            [study.id],
        )
        [(real,)] = self.db.read("SELECT count(*) FROM pairs WHERE study = ? AND kind = 'real'", [study.id])
        each = study.protocol.votes_per_pair
        return Progress(pairs, rendered, raters, showings, None if each is None else each * real)

    def count_by_rater(self, study: str) -> list[dict[str, Any]]:
        """id, kind, pairs done and time of the last vote of each rater; the latest voter comes first."""
        return self.db.records(
            "SELECT r.id, "
            "CASE WHEN r.id IN (SELECT rater FROM panel_ids) THEN 'panel' ELSE r.kind END AS kind, "
            "count(DISTINCT v.token) AS done, max(v.time) AS last FROM raters r "
            "LEFT JOIN votes v ON v.rater = r.id AND v.study = r.study WHERE r.study = ? "
            "GROUP BY r.id, r.kind, r.consented ORDER BY last DESC NULLS LAST, r.consented, r.id",
            [study],
        )

    def count_by_pair(self, study: str) -> list[dict[str, Any]]:
        """prompt, labels x and y, votes (without skips) and how often x was on the left, for each real pair.
        Pairs with the fewest votes come first.
        """
        return self.db.records(
            "SELECT p.prompt, p.seed, x.label AS x, y.label AS y, "
            "count(DISTINCT v.token) FILTER (WHERE v.winner <> 'skip') AS votes, "
            "count(DISTINCT v.token) FILTER (WHERE v.winner <> 'skip' AND a.left_is_x) AS lefts "
            "FROM pairs p JOIN arms x ON x.id = p.arm_x JOIN arms y ON y.id = p.arm_y "
            "LEFT JOIN votes v ON v.pair = p.id LEFT JOIN assignments a ON a.token = v.token "
            "WHERE p.study = ? AND p.kind = 'real' "
            "GROUP BY p.id, p.prompt, p.seed, x.label, y.label ORDER BY votes, p.id",
            [study],
        )

    def count_by_arms(self, study: str) -> list[dict[str, Any]]:
        """labels x and y, pairs, votes, fewest and most votes a pair, and how often x was on the left."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self.count_by_pair(study):
            blank = {"x": row["x"], "y": row["y"], "pairs": 0, "votes": 0, "lefts": 0}
            made = found.setdefault((row["x"], row["y"]), blank | {"fewest": row["votes"], "most": 0})
            made["pairs"] += 1
            made["votes"] += row["votes"]
            made["lefts"] += row["lefts"]
            made["most"] = max(made["most"], row["votes"])
        return list(found.values())

    def find_rendered(self, recipes: Sequence[str]) -> dict[str, str]:
        """Recipe → hash of the picture, for those that were rendered before, in any study."""
        found: dict[str, str] = {}
        for start in range(0, len(recipes), 500):
            part = list(recipes[start : start + 500])
            marks = ", ".join("?" * len(part))
            found.update(self.db.read(f"SELECT recipe, sha256 FROM renders WHERE recipe IN ({marks})", part))
        return found

    # writing

    def add(self, study: Study, arms: Sequence[StudyArm], pairs: Sequence[StudyPair]) -> None:
        """Write a new study with its arms and pairs, in one transaction."""

        def work(t: Transaction) -> None:
            if t.read("SELECT 1 FROM studies WHERE name = ? AND status <> 'archived'", [study.name]):
                raise StudyError(f"There is already a study called {study.name!r}. Choose another name.")
            t.insert("studies", [_study_row(study)])
            t.insert("arms", [_arm_row(arm) for arm in arms])
            self.add_pairs(t, pairs)

        self.db.write(work)

    def add_arms(self, arms: Sequence[StudyArm]) -> None:
        """Add arms to a study; those that it has already are skipped."""
        self.db.write(lambda t: t.insert("arms", [_arm_row(arm) for arm in arms], if_new=True))

    @staticmethod
    def add_pairs(t: Transaction, pairs: Sequence[StudyPair]) -> None:
        t.insert("pairs", [vars(pair) for pair in pairs])

    def add_picture(
        self, recipe: str, sha256: str, arm: StudyArm, pair: StudyPair, size: tuple[int, int]
    ) -> None:
        """Record that a recipe was rendered."""
        image = {"sha256": sha256, "arm": arm.id, "prompt": pair.prompt, "seed": pair.seed}
        image |= {"width": size[0], "height": size[1]}

        def work(t: Transaction) -> None:
            t.insert("images", [image], if_new=True)
            t.insert("renders", [{"recipe": recipe, "sha256": sha256}], if_new=True)
            known = t.read("SELECT sha256 FROM renders WHERE recipe = ?", [recipe])
            if known != [(sha256,)]:  # a lost picture that came out a little differently
                t.run("UPDATE renders SET sha256 = ? WHERE recipe = ?", [sha256, recipe])

        self.db.write(work)

    def hang(self, pairs: Sequence[tuple[str, str, str]]) -> None:
        """Give pairs, and their repeats, their pictures: (pair id, image x, image y)."""

        def work(t: Transaction) -> None:
            for start in range(0, len(pairs), 200):
                part = pairs[start : start + 200]
                marks = ", ".join(["(?, ?, ?)"] * len(part))
                for key in ("id", "repeat_of"):
                    t.run(
                        f"UPDATE pairs SET image_x = v.x, image_y = v.y FROM (VALUES {marks}) v(pair, x, y) "
                        f"WHERE pairs.{key} = v.pair",
                        [value for row in part for value in row],
                    )

        if pairs:
            self.db.write(work)

    def set_status(self, study: str, status: Status) -> Study:
        """Open, close or archive. Raises StudyError for a step that is not possible."""

        def work(t: Transaction) -> None:
            rows = t.read("SELECT status FROM studies WHERE id = ?", [study])
            if not rows:
                raise StudyError(NO_STUDY)
            if status not in NEXT[rows[0][0]]:
                raise StudyError(f"A study that is {rows[0][0]} cannot become {status}.")
            if status == "open":
                [(missing,)] = t.read(
                    "SELECT count(*) FROM pairs WHERE study = ? AND (image_x IS NULL OR image_y IS NULL)",
                    [study],
                )
                if missing:
                    raise StudyError(
                        f"{count(missing, 'pair')} of this study have no pictures yet. Render first."
                    )
            t.run("UPDATE studies SET status = ? WHERE id = ?", [status, study])
            if status in ("open", "closed"):
                field = "opened" if status == "open" else "closed"
                t.run(f"UPDATE studies SET {field} = ? WHERE id = ?", [now(), study])

        self.db.write(work)
        return self.get(study)


PAIR_COLUMNS = "id, study, prompt, seed, arm_x, arm_y, image_x, image_y, kind, repeat_of, category"


def _read_study(row: dict[str, Any]) -> Study | Unreadable:
    name = str(row["name"])
    try:
        return _study(row)
    except ValidationError as error:
        return Unreadable(name, f"its protocol cannot be read: {sentence(error)}")


def _study(row: dict[str, Any]) -> Study:
    del row["protocol_hash"]
    return Study(**{**row, "protocol": Protocol.model_validate_json(row["protocol"])})


def _study_row(study: Study) -> dict[str, Any]:
    protocol = study.protocol
    return {**vars(study), "protocol": protocol.to_json(), "protocol_hash": protocol.hash}


def _arm(row: dict[str, Any]) -> StudyArm:
    settings = json.loads(row.pop("settings"))
    return StudyArm(**row, **settings)


def _arm_row(arm: StudyArm) -> dict[str, Any]:
    kept_as_settings = {"steps", "guidance", "width", "height", "loras", "negative", "embedded"}
    return {**{k: v for k, v in vars(arm).items() if k not in kept_as_settings}, "settings": arm.settings}
