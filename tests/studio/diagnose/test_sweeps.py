"""Sweeps in the background over a tiny random pipeline, with the brightness of a picture as the reward."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from calibri.analysis.diagnose import Cell, read_sweep
from calibri.analysis.settings import SweepSettings
from calibri.errors import SearchError
from calibri.interval import Interval
from calibri.rewards.base import RewardInfo, RewardTerm
from studio.diagnose.charts import describe_cell, heat_figure, measure_height, rank_cells
from studio.diagnose.store import (
    CELLS,
    NOTE,
    SweepNote,
    check_fits,
    count_images,
    make_cell_calibration,
    read_sweeps,
)
from studio.diagnose.sweeps import Sweeps
from studio.machine.host import ModelHost
from studio.machine.queue import HostError

PROMPTS = ("a red cube", "a blue ball", "two green cones")


class Brightness:
    """Mean brightness, −1 to 1. `after`: calls after which `reached` is set, once."""

    def __init__(self, role: str = "reward", after: int | None = None) -> None:
        self.info = RewardInfo(name="b", role=role, version="1", description="brightness", range_hint=(-1, 1))
        self.reached = threading.Event()
        self._after, self.calls = after, 0

    def score(self, images: Sequence, prompts: Sequence[str]) -> np.ndarray:
        self.calls += 1
        if self.calls == self._after:
            self.reached.set()
        return np.array([np.asarray(image, dtype=np.float64).mean() / 127.5 - 1 for image in images])


@pytest.fixture
def reward() -> Brightness:
    return Brightness()


@pytest.fixture
def sweeps(host: ModelHost, tmp_path: Path, reward: Brightness) -> Iterator[Sweeps]:
    made = Sweeps(tmp_path / "sweeps", host, load=lambda name, device: reward)
    yield made
    made.close()


def settings(**changes: object) -> SweepSettings:
    return SweepSettings.parse(
        **{
            "rewards": (RewardTerm(name="b"),),
            "prompts": PROMPTS,
            "pairs": 4,
            "steps": 1,
            "values": (0.0, 1.5),
            **changes,
        }
    )


def test_a_sweep_measures_every_cell_and_its_file_is_that_of_the_command(sweeps: Sweeps) -> None:
    begun = sweeps.start(settings())
    assert begun.total == 10 and not begun.note.error
    done = sweeps.wait(begun.id)
    assert (done.state, done.done, done.images) == ("done", 10, 44) and done.error == ""
    cells = read_sweep(sweeps.path(begun.id))
    assert [(c.name, c.value) for c in cells] == [(n, v) for n in begun.note.names for v in (0.0, 1.5)]
    assert all(c.objective.n == 4 for c in cells) and len({c.objective.mean for c in cells}) == 10
    assert sweeps.pace.seconds("tiny", 1) > 0
    assert [s.id for s in sweeps.all()] == [begun.id]


def test_stopped_and_resumed_it_ends_with_the_same_cells(sweeps: Sweeps, reward: Brightness) -> None:
    whole = sweeps.start(settings())
    sweeps.wait(whole.id)
    reward._after = reward.calls + 5
    begun = sweeps.start(settings())
    assert reward.reached.wait(120)
    sweeps.stop(begun.id)
    halted = sweeps.wait(begun.id)
    assert halted.state == "interrupted" and 0 < halted.done < 10
    sweeps.resume(begun.id)
    assert sweeps.wait(begun.id).state == "done"
    assert sweeps.cells(begun.id) == sweeps.cells(whole.id)
    with pytest.raises(SearchError, match="nothing left"):
        sweeps.resume(begun.id)
    with pytest.raises(SearchError, match="not running"):
        sweeps.stop(begun.id)


def test_after_a_kill_it_is_interrupted_and_goes_on(
    sweeps: Sweeps, host: ModelHost, tmp_path: Path, reward: Brightness
) -> None:
    done = sweeps.start(settings())
    sweeps.wait(done.id)
    folder = tmp_path / "sweeps" / done.id
    note = SweepNote.model_validate_json((folder / NOTE).read_text(encoding="utf-8"))
    (folder / NOTE).write_text(note.model_copy(update={"state": "running"}).model_dump_json())
    whole = (folder / CELLS).read_text(encoding="utf-8")
    lines = whole.split("\n")
    (folder / CELLS).write_text("\n".join(lines[:4]) + "\n" + lines[4][:30])  # as kill -9 leaves it
    again = Sweeps(tmp_path / "sweeps", host, load=lambda name, device: reward)
    found = again.get(done.id)
    assert (found.state, found.done, found.title) == ("interrupted", 3, done.title)
    again.resume(done.id)
    assert again.wait(done.id).state == "done"
    assert (folder / CELLS).read_text(encoding="utf-8") == whole
    again.close()


def test_while_it_runs_the_backbone_stays_and_the_next_one_waits(sweeps: Sweeps, host: ModelHost) -> None:
    with host.hold(0, "a person"):  # nothing renders until this ends
        first, second, third = (sweeps.start(settings(seed=i)) for i in range(3))
        with pytest.raises(HostError, match="while a sweep runs"):
            host.load("tabletop")
        assert sweeps.get(second.id).state == sweeps.get(third.id).state == "queued"
        sweeps.stop(second.id)
        assert sweeps.get(second.id).state == "interrupted"
        sweeps.stop(first.id)
    assert sweeps.wait(first.id).state == "interrupted" and sweeps.get(first.id).done == 0
    assert sweeps.wait(third.id).state == "done"


def test_what_goes_wrong_is_said_in_words(host: ModelHost, tmp_path: Path) -> None:
    judged = Sweeps(tmp_path / "sweeps", host, load=lambda name, device: Brightness("judge"))
    assert "judge" in judged.wait(judged.start(settings()).id).error
    judged.close()
    real = Sweeps(tmp_path / "sweeps", host)
    failed = real.wait(real.start(settings(rewards=(RewardTerm(name="nonsense"),))).id)
    assert failed.state == "failed" and "unknown reward 'nonsense'" in failed.error
    real.close()
    assert read_sweeps(tmp_path / "sweeps").found[failed.id].error == failed.error
    other = failed.note.model_copy(update={"fingerprint": "0", "backbone": "FLUX.1-dev"})
    with pytest.raises(SearchError, match=r"Load FLUX\.1-dev first"):
        check_fits(other, host.wait_ready())
    with pytest.raises(SearchError, match="no such sweep"):
        real.get("../../etc")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"pairs": 1}, "pairs: .*greater than or equal to 2"),
        ({"steps": 0}, "steps"),
        ({"values": (1.0, 0.5)}, "leave it out"),
        ({"values": (99.0,)}, "from -4 to 4, got 99"),
        ({"prompts": ()}, "prompts"),
        ({"prompts": ("x" * 4001,)}, "1 to 4000 characters"),
        ({"guidance": float("nan")}, "guidance"),
    ],
)
def test_settings_that_do_not_fit_are_a_sentence(change: dict, words: str) -> None:
    with pytest.raises(SearchError, match=words):
        settings(**change)


def test_every_prompt_comes_once_before_any_comes_twice() -> None:
    pairs = settings(pairs=5).draw_pairs()
    assert [p.prompt for p in pairs] == [*PROMPTS, *PROMPTS[:2]]
    assert len({p.seed for p in pairs}) == 5 and settings(guidance=2.0, steps=7).nfe == 14
    assert count_images(12, 6, 16) == 16 * 73


# the chart


def cell(name: str, value: float, mean: float, half: float) -> Cell:
    interval = Interval(mean=mean, low=mean - half, high=mean + half, n=8)
    return Cell(name=name, value=value, objective=interval, rewards={"tabletop-align": interval})


CHART = [
    cell("double.0", 0.0, -0.8, 0.1),
    cell("double.0", 1.5, 0.4, 0.1),
    cell("single.0", 0.0, 0.1, 0.3),
]


def test_the_heat_map_is_centred_on_nothing_and_marks_what_is_not_told_apart() -> None:
    figure = heat_figure(CHART, ("double.0", "single.0"), (0.0, 1.5))
    heat, marks, key = figure["data"]
    assert key["name"] == "not told apart from the base" and key["showlegend"]
    assert heat["z"] == [[-0.8, 0.1], [0.4, None]] and heat["zmin"] == -0.8 and heat["zmax"] == 0.8
    assert heat["customdata"][0][0] == ["double.0", 0.0]
    assert "95 %" in heat["hovertext"][0][0] and "n = 8" in heat["hovertext"][0][0]
    assert (marks["x"], marks["y"]) == (["single.0"], ["0.00 (bypass)"])
    assert marks["customdata"] == [["single.0", 0.0]]
    assert "not measured" in heat["hovertext"][1][1]
    assert "3 of 4 cells" in figure["words"] and measure_height(2) >= 200


def test_one_ruined_picture_does_not_make_all_other_cells_grey() -> None:
    values = tuple(i / 10 for i in range(7))
    cells = [cell("double.0", v, mean, 0.01) for v, mean in zip(values, (-9, 0.1, 0.2, -0.2, 0.3, -0.1, 0.2))]
    heat = heat_figure(cells, ("double.0",), values)["data"][0]
    assert heat["zmax"] == -heat["zmin"] == pytest.approx(0.8)
    assert "or more" in heat["colorbar"]["title"]["text"] and "−9.00" in heat["hovertext"][0][0]


def test_an_empty_heat_map_keeps_its_place() -> None:
    figure = heat_figure([], ("double.0", "single.0"), (0.0, 1.5))
    assert figure["data"][0]["z"] == [[None, None], [None, None]] and figure["data"][0]["zmax"] > 0


def test_cells_are_offered_from_the_best_and_told_in_words() -> None:
    offered = rank_cells(CHART)
    assert [value for _, value in offered] == ["double.0|1.5", "single.0|0.0", "double.0|0.0"]
    assert offered[0][0].startswith("double.0 × 1.50: +0.40")
    words = describe_cell(CHART[2])
    assert "not told apart from the base" in words and "align" in words


def test_one_cell_is_a_calibration(sweeps: Sweeps) -> None:
    found = sweeps.start(settings())
    name = found.note.names[1]
    assert make_cell_calibration(found, name, 0.5).members[0].scales == (1.0, 0.5, 1.0, 1.0, 1.0)
    with pytest.raises(SearchError, match="no cell"):
        make_cell_calibration(found, "triple.0", 0.5)
    sweeps.stop(found.id)
    sweeps.wait(found.id)


def test_the_best_start_needs_a_cell_that_is_better(sweeps: Sweeps, host: ModelHost) -> None:
    found = sweeps.start(settings())
    sweeps.wait(found.id)
    layout = host.wait_ready().layout("block")
    path = sweeps.path(found.id)
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text(lines[0] + "\n", encoding="utf-8")
    with pytest.raises(SearchError, match="No cell of this sweep is better"):
        sweeps.start_of(found.id, layout)
    better = cell(found.note.names[0], 1.5, 0.4, 0.1)
    path.write_text(f"{lines[0]}\n{better.model_dump_json()}\n", encoding="utf-8")
    assert sweeps.start_of(found.id, layout).members[0].scales == (1.5, 1.0, 1.0, 1.0, 1.0)
