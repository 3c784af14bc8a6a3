"""Makes the examples that fill Search and Diagnose at the first visit: `python -m
studio.shell.prepare_examples`.

Real searches and a real sweep of tabletop, as a visitor would start them. What is in their files of the
machine that made them (its name, its process) is left out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from calibri.analysis.settings import SweepSettings
from calibri.assets import ASSETS
from calibri.prompts import prompt_set
from calibri.search.config import Budget, SearchConfig
from calibri.search.form import SearchForm
from calibri.search.journal import CALIBRATION, CONFIG, TAIL, rewrite_journal
from calibri.search.records import Record, SessionRecord
from studio.diagnose.store import CELLS
from studio.diagnose.store import NOTE as SWEEP_NOTE
from studio.machine.offers import JUDGES, REWARDS
from studio.search.runs import NOTE
from studio.settings import read_settings
from studio.shell.app import Studio, open_studio
from studio.studies.example import simulate, write_example

NOWHERE = "another machine"
#: Title of each search, and its settings where they are not the usual ones.
SEARCHES: dict[str, dict[str, object]] = {
    "Example: layer scales": {"seed": 0, "images": 640},
    "Example: another seed": {"seed": 1, "images": 400},
    "Example: for quality alone": {"seed": 2, "images": 400, "rewards": ["tabletop-quality"]},
}
#: What all of them share: few pictures.
FEW: dict[str, object] = {"held_out_pairs": 64, "validation_pairs": 32}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m studio.shell.prepare_examples", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", choices=("searches", "sweep", "study"))
    parser.add_argument("--images", type=int, help="fewer pictures in each search, for a trial")
    parser.add_argument("--pairs", type=int, default=8, help="that each cell of the sweep is measured on")
    parser.add_argument("--out", type=Path, default=ASSETS, help="where the examples go")
    given = parser.parse_args(arguments)
    if given.only in (None, "study"):
        print(write_example(given.out, simulate(study_prompts())).name, flush=True)
    if given.only == "study":
        return 0
    with tempfile.TemporaryDirectory() as data:
        studio = open_studio(read_settings(["--data", data]))
        studio.core.host.load("tabletop")
        try:
            if given.only != "sweep":
                make_searches(studio, given.out / "runs", given.images)
            if given.only != "searches":
                make_sweep(studio, given.out / "sweeps", given.pairs)
        finally:
            studio.close()
    return 0


def study_prompts() -> list[tuple[str, str]]:
    """(prompt, category) of the example study."""
    found = prompt_set("tabletop", "held-out")[:16]
    return [
        (prompt, "two things" if " of " in prompt or " next to " in prompt else "one thing")
        for prompt in found
    ]


def make_searches(studio: Studio, folder: Path, images: int | None = None) -> None:
    """Run each search to its end and keep its files in `folder`."""
    searches = studio.searches
    assert searches is not None
    backbone = studio.core.host.wait_ready()
    for title, changes in SEARCHES.items():
        values = {"rewards": list(REWARDS), "judges": list(JUDGES), "steps": 8, **FEW, **changes}
        if images:
            values["images"] = images
        form = SearchForm.read(values)
        config: SearchConfig = form.config(backbone, "tabletop")
        run_id = searches.start(config, form.budget or Budget(images=1500), title)
        status = searches.wait(run_id)
        print(f"{title}: {status.state} {status.verdict}, {status.images} images", flush=True)
        keep_run(searches.store.folder / run_id, folder / run_id)


def keep_run(made: Path, place: Path) -> None:
    """Copy what a page reads of a run, without the names of this machine."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in (CONFIG, NOTE, TAIL, CALIBRATION):
        if (made / name).exists():
            shutil.copy(made / name, place / name)
    rewrite_journal(made, place, _leave_names_out)


def _leave_names_out(record: Record) -> Record:
    if isinstance(record, SessionRecord):
        return record.model_copy(update={"host": NOWHERE, "pid": 0})
    return record


def make_sweep(studio: Studio, folder: Path, pairs: int) -> None:
    """Run one sweep to its end and keep its files in `folder`."""
    sweeps = studio.sweeps
    assert sweeps is not None
    studio.core.host.wait_ready()
    settings = SweepSettings.parse(
        granularity="block",
        rewards=list(REWARDS),
        prompts=prompt_set("tabletop", "search")[:pairs],
        pairs=pairs,
        steps=8,
    )
    made = sweeps.wait(sweeps.start(settings).id, 3600.0)
    print(f"The sweep: {made.state} {made.error}, {made.done} of {made.total} cells", flush=True)
    place = folder / "example"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in (CELLS, SWEEP_NOTE):
        shutil.copy(sweeps.folder / made.id / name, place / name)


if __name__ == "__main__":
    sys.exit(main())
