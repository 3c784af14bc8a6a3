"""What a search starts from, as the option --start names it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.calibration.artifact import Calibration
from calibri.calibration.guidance import guide, split_guides
from calibri.errors import SearchError
from calibri.search.form import FindStart

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.search.config import SearchConfig


def find_start(args: argparse.Namespace, backbone: Backbone) -> FindStart | None:
    """What finds the calibration to start from: that of a file, or the best of a sweep; None for the base."""
    if not args.start or args.start.startswith("guidance:"):
        return None
    name, guides = split_guides(args.start)
    path = Path(name)

    def find(draft: SearchConfig) -> Calibration:
        from calibri.calibration.reading import read_calibration

        layout = backbone.layout(draft.granularity)
        if not name:
            found = Calibration.base(layout, backbone.spec.name)
        elif path.suffix != ".jsonl":
            found = read_calibration(path, backbone.sites, backbone=backbone.spec.name)
        else:
            from calibri.analysis.diagnose import best_start, read_sweep

            found = best_start(read_sweep(path), layout, draft.backbone, bounds=draft.bounds)
            found = found.model_copy(update={"title": f"the sweep {path.name}"})
        if not guides:
            return found
        if not hasattr(backbone, "adapter"):
            raise SearchError(
                "--start: guidance is made with the loaded backbone, which only a job of the hub has: save "
                "the guided calibration here, and start from its file"
            )
        # The base is painted with guidance where its authors recommend it: so is what guides it.
        own = None if found.is_ensemble or backbone.adapter.guides_itself else draft.guidance
        return guide(backbone, guides, found.on_layout(layout), guidance=own)

    return find
