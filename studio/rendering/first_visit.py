"""The three pictures that a newcomer sees without a click, made beforehand by
`python -m studio.shell.prepare_first_visit`.

They lie in assets/first-visit/: `visit.json` (prompt, seed, steps, and for each arm its file, NFE, seconds
and rewards) and one PNG an arm. Where they are missing the page says so and offers to render.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from studio.rendering.arms import KINDS, WORDS, Arm
from studio.rendering.asks import Ask
from studio.rendering.shots import Comparison, Shot
from studio.settings import ASSETS

FOLDER = ASSETS / "first-visit"


class VisitArm(BaseModel):
    """One prepared picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Literal["base", "calibrated", "ensemble"]
    file: str
    nfe: int
    seconds: float
    rewards: dict[str, float]


class Visit(BaseModel):
    """What visit.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    seed: int
    steps: int
    granularity: str
    arms: tuple[VisitArm, ...]


def load(folder: Path = FOLDER) -> tuple[Visit, list[Shot]] | None:
    """The prepared visit and its three shots (base, calibrated, ensemble), or None while there is none."""
    from PIL import Image

    try:
        visit = Visit.model_validate_json((folder / "visit.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    ask = Ask(visit.prompt, visit.seed, visit.steps)
    shots = {}
    for made in visit.arms:
        with Image.open(folder / Path(made.file).name) as picture:
            image = picture.convert("RGB")
        shots[made.arm] = Shot(
            Arm(made.arm, WORDS[made.arm]), ask, image, made.nfe, made.seconds, made.rewards
        )
    return visit, [shots.get(k) or Shot(Arm(k, WORDS[k], missing="Not prepared yet."), ask) for k in KINDS]


def opening(assets: Path = ASSETS) -> Comparison | None:
    """The comparison that the first page opens with, or None while it is not made."""
    loaded = load(assets / FOLDER.name)
    if loaded is None:
        return None
    visit, shots = loaded
    return Comparison(Ask(visit.prompt, visit.seed, visit.steps), shots)


def examples() -> tuple[str, ...]:
    """Prompts to try, of the embedded world."""
    from calibri.tabletop.prompts import EXAMPLES

    return EXAMPLES
