"""Makes the pictures that a newcomer sees without a click: `python -m studio.shell.prepare_first_visit`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from studio.core import Core
from studio.rendering.arms import KINDS, Choice, resolve_arms
from studio.rendering.asks import Ask
from studio.rendering.first_visit import FOLDER, Visit, VisitArm
from studio.rendering.shots import Shot, shoot
from studio.settings import read_settings
from studio.shell.app import open_studio


def write(core: Core, ask: Ask, granularity: str, folder: Path = FOLDER) -> list[Shot]:
    """Render the three arms that the studio has for `ask`, and write what `open_first` reads."""
    core.host.wait_ready()
    arms = resolve_arms(core, [Choice(kind, granularity=granularity) for kind in KINDS])
    shots = [shot for shot in shoot(core, arms, ask) if shot.image is not None]
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
        prog="python -m studio.shell.prepare_first_visit", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--prompt", default="a small red cube left of a big blue sphere")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--granularity", default="layer", choices=("block", "layer", "gate"))
    parser.add_argument("--backbone", default="tabletop")
    given = parser.parse_args(arguments)
    studio = open_studio(read_settings(["--backbone", given.backbone]))
    studio.core.host.load(given.backbone)
    shots = write(studio.core, Ask.read(given.prompt, given.seed, given.steps), given.granularity)
    for shot in shots:
        print(f"{shot.arm.kind:11} {shot.nfe:3d} NFE  {shot.seconds:.2f} s  {shot.rewards}")
    studio.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
