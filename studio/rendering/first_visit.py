"""The three pictures that a newcomer sees without a click.

`python -m studio.shell.prepare_first_visit` makes them. They lie in assets/first-visit/: `visit.json`
(prompt, seed, steps, and for each arm its file, NFE, seconds and rewards) and one PNG for each arm. Where
they are missing, the page says so and offers to render.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from calibri.assets import ASSETS
from calibri.prompts import name_set, prompt_categories, prompt_set
from studio.core import Core
from studio.rendering.arms import KINDS, WORDS, Arm, ArmKind
from studio.rendering.asks import Ask
from studio.rendering.shots import Comparison, Shot

FOLDER = ASSETS / "first-visit"
EMBEDDED = "tabletop"  # the backbone of those pictures
MOST_EXAMPLES, SEED = 12, 3


class _Prepared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VisitArm(_Prepared):
    """One prepared picture."""

    arm: ArmKind
    file: str
    nfe: int
    seconds: float
    rewards: dict[str, float]


class Typical(_Prepared):
    """What the pictures were chosen by: their gains lie nearest to the mean over `of` asks. `gains`: that
    mean, arm → reward → gain over the base."""

    of: int
    gains: dict[str, dict[str, float]]


class Visit(_Prepared):
    """What visit.json holds."""

    prompt: str
    seed: int
    steps: int
    granularity: str
    arms: tuple[VisitArm, ...]
    typical: Typical | None = None

    @property
    def ask(self) -> Ask:
        return Ask(self.prompt, self.seed, self.steps)


def read_visit(assets: Path = ASSETS) -> Visit | None:
    """What is prepared of these assets; None where nothing is, or it cannot be read."""
    try:
        path = assets / FOLDER.name / "visit.json"
        return Visit.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def open_first(assets: Path = ASSETS) -> Comparison | None:
    """The comparison that the first page opens with, or None while it is not made."""
    from PIL import Image

    folder, visit = assets / FOLDER.name, read_visit(assets)
    if visit is None:
        return None
    ask = visit.ask
    shots = {kind: Shot(Arm(kind, WORDS[kind], missing="Not prepared yet."), ask) for kind in KINDS}
    for made in visit.arms:
        with Image.open(folder / Path(made.file).name) as picture:
            image = picture.convert("RGB")
        arm = Arm(made.arm, WORDS[made.arm])
        shots[made.arm] = Shot(arm, ask, image, made.nfe, made.seconds, made.rewards)
    return Comparison(ask, list(shots.values()))


def list_examples(backbone: str = EMBEDDED) -> tuple[str, ...]:
    """Prompts to try on this backbone: of the embedded world, else one of each category."""
    from calibri.tabletop.prompts import EXAMPLES

    if not backbone or name_set(backbone) == EMBEDDED:
        return EXAMPLES
    return tuple(prompt_set("general", "search", each)[0] for each in prompt_categories())[:MOST_EXAMPLES]


def usual_ask(core: Core) -> Ask:
    """What the pages ask for at first: the backbone's own steps and guidance, and a prompt for it."""
    spec = core.spec
    if spec is None or spec.name == EMBEDDED:
        visit = read_visit(core.assets)
        return Ask(list_examples()[0], SEED, 8) if visit is None else visit.ask
    steps, guidance = spec.steps, spec.cfg or 1.0
    return Ask(list_examples(spec.name)[0], SEED, steps, guidance)


NUMBERS = "The numbers under a picture are its rewards, and beside them how far they lie above the base's."


def label_first(core: Core) -> str:
    """What to say of the prepared pictures: why these, and what the numbers are; whose they are while another
    backbone than theirs is there."""
    name = core.spec.name if core.spec is not None else core.backbone_name
    if name in ("", EMBEDDED):
        visit = read_visit(core.assets)
        if visit is None:
            return ""
        of = visit.typical.of if visit.typical is not None else 0
        why = f"These three are typical: of {of}, their gains lie nearest to the mean. " if of else ""
        return f"{why}{NUMBERS}"
    return f"These pictures are of {EMBEDDED}, the model that comes along. Press Render for those of {name}."
