"""Makes the pictures that a newcomer sees without a click: `python -m studio.shell.prepare_first_visit`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from studio.core import Core
from studio.rendering.arms import KINDS, Choice, resolve_arms
from studio.rendering.asks import Ask
from studio.rendering.first_visit import FOLDER, Typical, Visit, VisitArm, list_examples
from studio.rendering.shots import Shot, shoot
from studio.settings import read_settings
from studio.shell.app import open_studio


def find_typical(core: Core, asks: Sequence[Ask], granularity: str) -> tuple[Ask, Typical]:
    """The ask whose gains over the base, of both other arms in all rewards, lie nearest to the mean over
    all asks, in standard deviations; and that mean. None of its gains has another sign than the
    mean, where there is such an ask.
    """
    core.host.wait_ready()
    arms = resolve_arms(core, [Choice(kind, granularity=granularity) for kind in KINDS])
    rows, names = [], []
    for ask in asks:
        shots = shoot(core, arms, ask)
        base = shots[0].rewards
        gains = {
            (shot.arm.kind, name): value - base[name]
            for shot in shots[1:]
            for name, value in shot.rewards.items()
        }
        names = list(gains)
        rows.append([gains[name] for name in names])
    place, mean = choose_typical(np.array(rows))
    told: dict[str, dict[str, float]] = {}
    for (kind, name), value in zip(names, mean):
        told.setdefault(kind, {})[name] = round(float(value), 4)
    return asks[place], Typical(of=len(asks), gains=told)


def choose_typical(gains: np.ndarray) -> tuple[int, np.ndarray]:
    """The row of `gains`, (asks, numbers), nearest to the mean among those with its signs, and the mean."""
    mean, spread = gains.mean(axis=0), gains.std(axis=0, ddof=1)
    agrees = (gains * np.sign(mean) > -0.1 * spread).all(axis=1)  # a tenth of a spread is as good as nothing
    distance = (((gains - mean) / np.where(spread > 0, spread, 1)) ** 2).sum(axis=1)
    return int(np.argmin(np.where(agrees | ~agrees.any(), distance, np.inf))), mean


def write(
    core: Core, ask: Ask, granularity: str, folder: Path = FOLDER, typical: Typical | None = None
) -> list[Shot]:
    """Render the three arms that the studio has for `ask`, and write what `open_first` reads. `typical`:
    what the ask was chosen by."""
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
        prompt=ask.prompt,
        seed=ask.seed,
        steps=ask.steps,
        granularity=granularity,
        arms=tuple(made),
        typical=typical,
    )
    text = json.dumps(visit.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False)
    (folder / "visit.json").write_text(text + "\n", encoding="utf-8")
    return shots


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studio.shell.prepare_first_visit", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--prompt", help="instead of the typical one of the prompts to try")
    parser.add_argument("--seeds", type=int, default=2, help="of each prompt to try, to choose among")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--granularity", default="layer", choices=("block", "layer", "gate"))
    parser.add_argument("--backbone", default="tabletop")
    given = parser.parse_args(arguments)
    studio = open_studio(read_settings(["--backbone", given.backbone]))
    studio.core.host.load(given.backbone)
    typical = None
    if given.prompt:
        ask = Ask.read(given.prompt, given.seed, given.steps)
    else:
        prompts = list_examples(given.backbone)
        asks = [Ask.read(p, seed, given.steps) for p in prompts for seed in range(1, given.seeds + 1)]
        ask, typical = find_typical(studio.core, asks, given.granularity)
    shots = write(studio.core, ask, given.granularity, typical=typical)
    print(f"{ask.prompt!r}, seed {ask.seed}" + (f", typical of {typical.of}" if typical else ""))
    for shot in shots:
        print(f"{shot.arm.kind:11} {shot.nfe:3d} NFE  {shot.seconds:.2f} s  {shot.rewards}")
    studio.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
