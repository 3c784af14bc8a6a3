"""The three pictures that a newcomer sees without a click, made beforehand by
`python -m studio.rendering.first_visit`.

They lie in assets/first-visit/: `visit.json` (prompt, seed, steps, and for each arm its file, NFE, seconds
and rewards) and one PNG an arm. Where they are missing the page says so and offers to render.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from studio.core import Services, open_services
from studio.rendering.shots import KINDS, WORDS, Arm, Ask, Comparison, Shot, arm, shoot
from studio.settings import ASSETS, read_settings

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


def write(services: Services, ask: Ask, granularity: str, folder: Path = FOLDER) -> list[Shot]:
    """Render the three arms that the studio has for `ask`, and write what `load` reads."""
    services.host.wait_ready()
    arms = [arm(services, kind, granularity, None, None) for kind in KINDS]
    shots = [shot for shot in shoot(services, arms, ask) if shot.image is not None]
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for shot in shots:
        file = f"{shot.arm.kind}.png"
        shot.image.save(folder / file)  # type: ignore[union-attr]
        made.append(
            VisitArm(
                arm=shot.arm.kind,
                file=file,
                nfe=shot.nfe,
                seconds=round(shot.seconds, 3),
                rewards={k: round(v, 4) for k, v in shot.rewards.items()},
            )
        )
    visit = Visit(
        prompt=ask.prompt, seed=ask.seed, steps=ask.steps, granularity=granularity, arms=tuple(made)
    )
    text = json.dumps(visit.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / "visit.json").write_text(text + "\n", encoding="utf-8")
    return shots


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studio.rendering.first_visit", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--prompt", default="a small red cube left of a big blue sphere")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--granularity", default="layer", choices=("block", "layer", "gate"))
    parser.add_argument("--backbone", default="tabletop")
    given = parser.parse_args(arguments)
    services = open_services(read_settings(["--backbone", given.backbone]))
    services.host.load(given.backbone)
    shots = write(services, Ask.checked(given.prompt, given.seed, given.steps), given.granularity)
    for shot in shots:
        print(f"{shot.arm.kind:11} {shot.nfe:3d} NFE  {shot.seconds:.2f} s  {shot.rewards}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
