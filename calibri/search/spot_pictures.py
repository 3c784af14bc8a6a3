"""The pictures of a search's blind spots, beside its journal: the base and the point reached, each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.rewards.scoring import LocalScorer, Pair
from calibri.search.objective import Objective
from calibri.search.records import BlindSpot

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration

FOLDER = "blind-spots"  # in the run folder


def spot_files(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """Where the pictures of base and point reached of each spot lie in a run folder."""
    return [
        (folder / FOLDER / f"{number:02}-base.png", folder / FOLDER / f"{number:02}-found.png")
        for number in range(1, count + 1)
    ]


def paint_spots(
    objective: Objective, spots: Sequence[BlindSpot], calibration: Calibration, folder: Path
) -> None:
    """Renders and writes them, each PNG with its settings. Where the pictures of the search are made
    elsewhere nothing is written: the record of the result names prompts and seeds.
    """
    from calibri.sampling.png import save_png, settings_of

    scorer = objective.scorer
    if not spots or not isinstance(scorer, LocalScorer):
        return
    (folder / FOLDER).mkdir(exist_ok=True)
    pairs = [Pair(prompt=spot.prompt, seed=spot.seed) for spot in spots]
    backbone = scorer.renderer.backbone
    for column, (members, carried) in enumerate(((None, None), (calibration.members, calibration))):
        requests = [objective.request(pair, members) for pair in pairs]
        made = scorer.renderer.render(requests, turn=scorer.turn)
        objective.images += len(requests)
        for files, rendered in zip(spot_files(folder, len(spots)), made, strict=True):
            save_png(rendered.image, files[column], settings_of(rendered, backbone, carried))
