"""Several saved calibrations as one, on a visitor's desk: a draft that is kept by saving it. No Gradio."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from calibri.backbones.layouts import GRANULARITIES
from calibri.calibration.artifact import Calibration
from calibri.calibration.compose import MOST_PARTS, WAYS, Way, compose
from calibri.errors import ArtifactError, LayoutError
from studio.core import Core
from studio.scales.desk import MOST_MEMBERS, Desk, check_scales
from studio.scales.edits import get_desk, get_place
from studio.scales.keeping import put_down

LONGEST_WEIGHTS = 400  # characters


def read_weights(text: object, parts: int) -> list[float] | None:
    """Numbers with commas or spaces between them, one for each part; None for an empty text. Raises
    ArtifactError for anything else."""
    if not isinstance(text, str) or len(text) > LONGEST_WEIGHTS:
        raise ArtifactError("Expected weights as numbers with commas.")
    words = re.split(r"[\s,;]+", text.replace("−", "-").strip()) if text.strip() else []
    if not words:
        return None
    try:
        weights = [float(word) for word in words]
    except ValueError:
        raise ArtifactError(f"Weights: expected numbers with commas, got {text.strip()[:60]!r}.") from None
    if len(weights) != parts:
        raise ArtifactError(f"Expected {parts} weights, one for each calibration, got {len(weights)}.")
    return weights


def compose_saved(core: Core, ids: object, weights: object = "", way: object = "blend") -> Calibration:
    """The blend or the product of saved calibrations of the loaded backbone, in the order in which they were
    chosen. Where their granularities differ, all are brought to the finest.

    Raises ArtifactError or LayoutError that names the two that do not fit together.
    """
    backbone = core.host.wait_ready()
    name = backbone.spec.name
    if not isinstance(ids, Sequence) or isinstance(ids, str) or not 2 <= len(ids) <= MOST_PARTS:
        raise ArtifactError(f"Choose 2 to {MOST_PARTS} saved calibrations to compose.")
    if way not in get_args(Way):
        raise ArtifactError(f"Expected {' or '.join(WAYS)}, got {str(way)[:40]!r}.")
    parts = []
    for each in ids:
        entry = core.calibrations.get(str(each))
        if entry.calibration.backbone and not entry.calibration.belongs_to(name, backbone.fingerprint):
            raise ArtifactError(
                f"“{entry.title}” is for {entry.calibration.backbone}, but {name} is loaded: calibrations of "
                "different backbones have no scales in common."
            )
        parts.append(entry.calibration.model_copy(update={"backbone": name, "title": entry.title}))
    found = read_weights(weights, len(parts))
    finest = max((part.granularity for part in parts), key=GRANULARITIES.index)
    # A layout also says what is wrong with the names of a part.
    return compose(parts, found, next(w for w in WAYS if w == way), layout=backbone.layout(finest))


def put_on_desk(
    core: Core, visitor: object, ids: object, weights: object = "", way: object = "blend"
) -> tuple[Desk, str]:
    """Compose, and put the result on the visitor's desk, to be seen, changed and saved. Returns the
    desk and a remark. Raises as `compose_saved`, and LayoutError for scales that the desk cannot hold."""
    made = compose_saved(core, ids, weights, way)
    if len(made.members) > MOST_MEMBERS:
        raise LayoutError(f"The desk holds {MOST_MEMBERS} members, this would have {len(made.members)}.")
    layout = core.host.wait_ready().layout(made.granularity)
    for member in made.members:
        check_scales(member.scales, layout)  # before the desk changes its granularity
    place = get_place(core, visitor)
    with place.editing:
        desk = put_down(core, place, get_desk(core, place, made.granularity).hold(made.members))
        place.draft = made
    verb = "blended" if way == "blend" else "multiplied"
    return desk, f"{verb} {made.title[:160]}, at {made.granularity} granularity; save it to keep it"
