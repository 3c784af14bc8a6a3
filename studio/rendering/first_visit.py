"""The three pictures that a newcomer sees without a click.

`python -m studio.shell.prepare_first_visit` makes them. They lie in assets/first-visit/: `visit.json`
(prompt, seed, steps, and for each arm its file, NFE, seconds and rewards) and one PNG for each arm. Where
they are missing, the page says so and offers to render.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from calibri.assets import ASSETS
from studio.rendering.arms import KINDS, WORDS, Arm, ArmKind
from studio.rendering.asks import Ask
from studio.rendering.shots import Comparison, Shot

FOLDER = ASSETS / "first-visit"


class _Prepared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VisitArm(_Prepared):
    """One prepared picture."""

    arm: ArmKind
    file: str
    nfe: int
    seconds: float
    rewards: dict[str, float]


class Visit(_Prepared):
    """What visit.json holds."""

    prompt: str
    seed: int
    steps: int
    granularity: str
    arms: tuple[VisitArm, ...]


def open_first(assets: Path = ASSETS) -> Comparison | None:
    """The comparison that the first page opens with, or None while it is not made."""
    from PIL import Image

    folder = assets / FOLDER.name
    try:
        visit = Visit.model_validate_json((folder / "visit.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    ask = Ask(visit.prompt, visit.seed, visit.steps)
    shots = {kind: Shot(Arm(kind, WORDS[kind], missing="Not prepared yet."), ask) for kind in KINDS}
    for made in visit.arms:
        with Image.open(folder / Path(made.file).name) as picture:
            image = picture.convert("RGB")
        arm = Arm(made.arm, WORDS[made.arm])
        shots[made.arm] = Shot(arm, ask, image, made.nfe, made.seconds, made.rewards)
    return Comparison(ask, list(shots.values()))


def list_examples() -> tuple[str, ...]:
    """Prompts to try, of the embedded world."""
    from calibri.tabletop.prompts import EXAMPLES

    return EXAMPLES
