"""From what the page Library was asked to calibrations, their pictures and files. No Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibri.errors import ArtifactError, CalibriError
from studio.calibrations import Entry, read_file
from studio.core import Core
from studio.library.thumbnails import PROMPT, SEED
from studio.rendering.arms import Arm, ArmKind
from studio.rendering.asks import Ask
from studio.rendering.shots import Shot, shoot, shoot_cached

BASE = "base"  # the choice that means: the base
MOST_FILES = 50  # in one import


def find_entry(core: Core, entry_id: object) -> Entry | None:
    """The calibration of this id, or None where there is none (any more)."""
    return next((entry for entry in core.calibrations.entries() if entry.id == entry_id), None)


def get_entry(core: Core, entry_id: object) -> Entry:
    """The same, or an ArtifactError."""
    if not entry_id:
        raise ArtifactError("Choose a calibration first.")
    return core.calibrations.get(str(entry_id))


def make_arm(core: Core, entry: Entry | None) -> Arm:
    """The base for None; a calibration of another backbone than the loaded one is missing, in words."""
    if entry is None:
        return Arm("base", "Base")
    made, loaded = entry.calibration, core.backbone_name
    kind: ArmKind = "ensemble" if made.is_ensemble else "calibrated"
    backbone = core.host.backbone
    fingerprint = backbone.fingerprint if backbone is not None else ""
    if made.backbone and not made.belongs_to(loaded, fingerprint):
        words = f"This one is for {made.backbone}, but {loaded or 'no backbone'} is loaded."
        return Arm(kind, entry.title, missing=words)
    return Arm(kind, entry.title, made)


def render_pair(
    core: Core,
    visitor: object,
    selected: object,
    beside: object,
    prompt: object,
    seed: object,
    steps: object,
    **calls: Any,
) -> list[Shot]:
    """The chosen calibration and what stands beside it, on one prompt and seed.

    Calls this visitor's earlier render off. Raises ArtifactError where one of the two is gone.
    """
    ask = Ask.read(prompt, seed, steps)
    cancelled = core.visitors.of(visitor).begin("library")
    other = None if beside in (BASE, None, "") else get_entry(core, beside)
    arms = [make_arm(core, get_entry(core, selected)), make_arm(core, other)]
    usual = core.host.wait_ready(cancel=cancelled).spec.steps
    if (ask.prompt, ask.seed, ask.steps) == (PROMPT, SEED, usual):
        return shoot_cached(core, [(arm, ask) for arm in arms], cancel=cancelled, **calls)
    return shoot(core, arms, ask, cancel=cancelled, **calls)


def import_files(core: Core, paths: Sequence[str | Path]) -> tuple[list[Entry], str]:
    """The calibrations of these files, saved, and in plain text which came in and why others did not."""
    if len(paths) > MOST_FILES:
        raise ArtifactError(f"Expected at most {MOST_FILES} files at once, got {len(paths)}.")
    entries: list[Entry] = []
    refused = []
    for path in map(Path, paths):
        try:
            entries.append(core.calibrations.save(read_file(path, core.host.backbone)))
        except CalibriError as error:
            refused.append(f"{path.name} was not imported: {str(error).removesuffix('.')}.")
    names = ", ".join(f"“{entry.title}”" for entry in entries)
    return entries, " ".join([*([f"Imported {names}."] if names else []), *refused])
