"""The page Diagnose without a browser: its form, its words, the pictures of a cell, the way to the desk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from calibri.analysis.diagnose import Cell
from calibri.errors import SearchError
from calibri.interval import Interval
from studio.core import Core
from studio.diagnose import form
from studio.diagnose.page import show_map, show_pictures, show_state
from studio.diagnose.store import Sweep
from studio.diagnose.sweeps import Sweeps
from studio.diagnose.view import (
    describe_cost,
    describe_key,
    describe_state,
    draw_map,
    draw_state,
    find_sweep,
    list_sweeps,
)
from studio.scales.edits import get_place

FORM = (["tabletop-quality"], 2, 2, "block", 1.0, "0, 1.5", "a red cube\na blue ball\na red cube")


@pytest.fixture
def sweeps(core: Core) -> Iterator[Sweeps]:
    made = Sweeps(core.settings.data / "sweeps", core.host)
    yield made
    made.close()


@pytest.fixture
def measured(core: Core, sweeps: Sweeps) -> Sweep:
    """A sweep that is done, by the real reward; then one cell of it is made surely better."""
    begun = sweeps.start(form.read_settings(core.host, *FORM))
    assert sweeps.wait(begun.id).state == "done"
    better = Interval(mean=0.4, low=0.3, high=0.5, n=2)
    cells = sweeps.cells(begun.id)
    cells[1] = Cell(name="double.0", value=1.5, objective=better, rewards={"tabletop-quality": better})
    path = sweeps.path(begun.id)
    head = path.read_text(encoding="utf-8").split("\n", 1)[0]
    path.write_text("\n".join([head, *(c.model_dump_json() for c in cells)]) + "\n", encoding="utf-8")
    return sweeps.get(begun.id)


def test_a_form_becomes_a_sweep(core: Core, sweeps: Sweeps) -> None:
    made = form.read_settings(core.host, *FORM)
    assert made.prompts == ("a red cube", "a blue ball") and made.values == (0.0, 1.5)
    assert made.guidance is None and made.rewards[0].name == "tabletop-quality"
    words = describe_cost(sweeps, core.host.wait_ready(), made)
    assert "5 scales × 2 values = 10 cells, each on 2 prompts: 22 pictures" in words
    assert "not known yet" in words
    sweeps.pace.note("tiny", 2, 10.0)
    assert describe_cost(sweeps, core.host.wait_ready(), made).endswith("about 4 min on this machine.")


@pytest.mark.parametrize(
    "change, words",
    [
        ({0: []}, "rewards: .*at least one"),
        ({0: ["a", "a:2"]}, "rewards: .*a twice"),
        ({0: ["a:b"]}, "name or name:weight"),
        ({1: 1}, "pairs: .*equal to 2, got 1"),
        ({1: None}, "pairs: .*got None"),
        ({2: 2.5}, "steps"),
        ({3: "tile"}, "granularity"),
        ({5: "0; x"}, "numbers with commas"),
        ({6: " \n"}, "Type prompts that suit tiny"),
    ],
)
def test_what_does_not_fit_is_a_sentence(core: Core, change: dict, words: str) -> None:
    with pytest.raises(SearchError, match=words):
        form.read_settings(core.host, *(change.get(i, value) for i, value in enumerate(FORM)))


def test_the_page_shows_what_was_measured(sweeps: Sweeps, measured: Sweep) -> None:
    assert (
        list_sweeps(sweeps) == [(measured.title, measured.id)] and "tiny · block · quality" in measured.title
    )
    assert form.pick_sweep(sweeps) == measured.id
    assert "Done: 10 cells, each on 2 prompts." in show_state(find_sweep(sweeps, measured.id))[0]
    figure, _, cells, best = show_map(sweeps, measured, "nonsense")
    assert figure == draw_map(sweeps, measured) and "10 of 10 cells" in figure["words"]
    assert len(cells.choices) == 10 and best.interactive
    assert find_sweep(sweeps, "gone") is None and draw_map(sweeps, None) is None
    assert "No sweep yet" in show_state(find_sweep(sweeps, None))[0]
    assert "+0.40 [+0.30, +0.50], better than the base" in describe_key(sweeps, measured, "double.0|1.5")


def test_every_state_is_a_sentence(measured: Sweep) -> None:
    states = {
        "queued": "Waits for the sweep under way",
        "running": "Measuring: 3 of 10 cells, 8 of 44 pictures, 2 min left",
        "stopping": "Stopping after this batch",
        "interrupted": "Stopped after 3 of 10 cells. Press Resume",
        "failed": "Failed after 3 of 10 cells. No weights.",
    }
    for state, words in states.items():
        now = dataclasses.replace(
            measured, state=state, done=3, images=8, images_total=44, seconds_left=100.0, error="No weights."
        )
        assert words in describe_state(now) and words in draw_state(now)


def test_a_cell_shows_base_and_changed_and_reads_them_the_second_time(
    core: Core, measured: Sweep, visitor: str
) -> None:
    shots = form.render_cell(core, visitor, measured, "double.0|0.0")
    assert [s.arm.kind for s in shots] == ["base", "calibrated"] * 2
    assert not np.array_equal(np.asarray(shots[0].image), np.asarray(shots[1].image))
    again = form.render_cell(core, visitor, measured, "double.0|0.0")
    assert [s.seconds for s in again] == [s.seconds for s in shots]
    assert len(show_pictures(shots)) == 9 and show_pictures(shots)[6:] == [None, None, ""]
    for wrong in ("double.0|0.3", "triple|0.0", "", None, "double.0|nan"):
        with pytest.raises(SearchError, match="Choose a cell"):
            form.render_cell(core, visitor, measured, wrong)


def test_the_best_goes_to_the_desk(core: Core, sweeps: Sweeps, measured: Sweep, visitor: str) -> None:
    form.open_best(core, sweeps, visitor, measured.id)
    desk = get_place(core, visitor).desk
    assert desk.layout.granularity == "block" and desk.values[0] == 1.5
    with pytest.raises(SearchError, match="no such sweep"):
        form.open_best(core, sweeps, visitor, "gone")
