"""`python -m calibri.tabletop.train --stage STAGE`: one stage of the recipe, or `all` of them in order."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import torch

from calibri.tabletop.train.common import Place

# stage → minutes on two CPU cores
MINUTES = {
    "vae": 16.0,
    "keep": 3.0,
    "flow": 90.0,
    "decoder": 8.0,
    "align": 13.0,
    "facts": 4.0,
    "quality": 14.0,
    "judge": 9.0,
}


def _stage(name: str) -> Callable[[Place], None]:
    """The stage's function: its module is imported only when it runs."""
    if name in ("vae", "decoder"):
        from calibri.tabletop.train.vae import train_vae

        return lambda place: train_vae(place, name == "decoder")
    if name in ("keep", "facts"):
        from calibri.tabletop.train.facts import train_facts

        return lambda place: train_facts(place, name)
    if name == "flow":
        from calibri.tabletop.train.flow import train_flow

        return train_flow
    if name == "align":
        from calibri.tabletop.train.align import train_align

        return train_align
    from calibri.tabletop.train.preference import train_preference

    return lambda place: train_preference(place, name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m calibri.tabletop.train", description=__doc__)
    parser.add_argument("--stage", choices=[*MINUTES, "all"], required=True)
    parser.add_argument(
        "--minutes", type=float, help="training time of the stage; default: what two CPU cores need"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("work/tabletop"), help="data, checkpoints; never committed"
    )
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="pictures in a step of flow")
    parser.add_argument(
        "--fresh", action="store_true", help="start the stage anew instead of resuming its checkpoint"
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="flow, align: start from the published weights where no checkpoint is",
    )
    parser.add_argument(
        "--processes",
        type=int,
        help="flow: processes that share each batch; default: one a core on a CPU, up to 4",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="flow: compile the transformer first: a quarter faster on a CPU, after two minutes",
    )
    a = parser.parse_args()
    processes = a.processes or (min(os.cpu_count() or 1, 4) if a.device == "cpu" else 1)
    for name in list(MINUTES) if a.stage == "all" else [a.stage]:
        place = Place(
            a.work,
            a.assets,
            a.device,
            a.minutes or MINUTES[name],
            a.batch,
            a.fresh,
            a.published,
            processes,
            a.compile,
        )
        _stage(name)(place)


if __name__ == "__main__":
    main()
