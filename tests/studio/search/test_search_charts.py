"""Figures of searches: bounded, stable while generations arrive, and complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.search.charts import (
    COLUMNS,
    MOST,
    drawn_key,
    mean_figure,
    reward_figure,
    spread_figure,
    step_figure,
    stride,
    thin_out,
)
from studio.search.runs import Run, RunStore
from tests.studio.search.runfolders import EACH, Writer, config


@pytest.fixture(scope="module")
def long_store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run of 10,000 generations and a short one."""
    folder = tmp_path_factory.mktemp("runs")
    writer = Writer(folder / "long")
    writer.generations(0, 10_000)
    short = Writer(folder / "short")
    short.generations(0, 10)
    short.validation(5)
    short.validation(9)
    return RunStore(folder)


def curves(figure: dict) -> list[dict]:
    return [trace for trace in figure["data"] if trace["type"] == "scatter"]


def test_ten_thousand_generations_are_at_most_two_thousand_points_a_curve(long_store: RunStore) -> None:
    run = long_store.get("long")
    assert len(run.generations) == 10_000
    figures = [reward_figure([run]), step_figure([run]), spread_figure(run), mean_figure(run)]
    for figure in figures:
        for trace in curves(figure):
            assert len(trace["x"]) == len(trace["y"]) <= MOST
    heat = figures[-1]["data"][0]
    assert len(heat["x"]) <= COLUMNS and all(len(row) == len(heat["x"]) for row in heat["z"])
    assert len(heat["z"]) == len(heat["y"]) == 16
    sent = [len(json.dumps(figure, separators=(",", ":"))) for figure in figures]
    assert sum(sent) < 700_000, sent
    mean = next(t for t in curves(figures[0]) if t["name"] == "mean of candidates")
    assert len(mean["x"]) == 1250 and mean["x"][0] == 64 + EACH and mean["x"][1] == 64 + 9 * EACH


def test_points_that_are_drawn_stay_where_they_are_when_more_arrive(long_store: RunStore) -> None:
    steps = long_store.get("long").generations
    before: list[int] = []
    for count in [*range(1, 60), *range(1990, 2010), *range(3990, 4010), 5000, 7999, 8001, 10_000]:
        now = [s.generation for s in thin_out(steps[:count])]
        assert len(now) <= MOST and now[0] == 0
        step = stride(count)
        assert now == list(range(0, count, step)) and step & (step - 1) == 0
        last = before[-1] if before else -1
        assert [g for g in now if g <= last] in (before, before[::2], before[::4])
        before = now


def test_charts_are_sent_again_only_when_a_drawn_point_was_added(long_store: RunStore) -> None:
    whole, key = long_store.get("long"), []
    part = Run(whole.folder, whole.config, whole.note, 0.0)
    for count in range(9_984, 10_001):
        part.generations = whole.generations[:count]
        key.append(drawn_key([part]))
    assert len(set(key)) == 3  # 16 more generations, of which every eighth is drawn
    part.generations = whole.generations[:40]
    assert drawn_key([part]) != drawn_key([part, whole])


def test_the_reward_chart_has_best_mean_base_and_validation_with_intervals(long_store: RunStore) -> None:
    figure = reward_figure([long_store.get("short")])
    named = {trace["name"]: trace for trace in curves(figure)}
    assert {"best candidate", "mean of candidates", "validation", "low", "high"} <= set(named)
    checks = named["validation"]
    assert checks["x"] == [64 + 5 * EACH, 64 + 9 * EACH] and checks["error_y"]["array"] == [0.1, 0.1]
    assert figure["layout"]["shapes"][0]["y0"] == 0.0
    assert figure["layout"]["xaxis"]["title"]["text"] == "images used"
    assert "10 generations" in figure["words"] and "validation +0.50" in figure["words"]


def test_several_runs_share_a_chart_told_apart_by_more_than_colour(long_store: RunStore) -> None:
    figure = reward_figure(long_store.several(["short", "long"]))
    means = [t for t in curves(figure) if t["name"].endswith("mean of candidates")]
    assert [t["name"] for t in means] == ["short: mean of candidates", "long: mean of candidates"]
    assert len({(t["line"]["color"], t["line"]["dash"]) for t in means}) == 2
    assert len({t["line"]["dash"] for t in means}) == 2
    assert figure["layout"]["uirevision"] == "short|long"


def test_scales_are_coloured_by_layer_and_one_is_the_middle_of_the_heat_map(long_store: RunStore) -> None:
    run = long_store.get("short")
    spread = curves(spread_figure(run))
    assert len(spread) == 16 and len({t["line"]["color"] for t in spread}) == 2
    assert sum(t["showlegend"] for t in spread) == 2
    heat = mean_figure(run)["data"][0]
    assert (heat["zmin"], heat["zmid"], heat["zmax"]) == (0.5, 1.0, 1.5)
    assert heat["y"][0] == "double.0.attn"


def test_a_run_without_generations_has_empty_figures(tmp_path: Path) -> None:
    Writer(tmp_path / "runs" / "new")
    run = RunStore(tmp_path / "runs").get("new")
    for figure in (reward_figure([run]), step_figure([run]), spread_figure(run), mean_figure(run)):
        assert figure["words"] == "No generation yet."
        json.dumps(figure)


def test_one_generation_is_drawn_too(tmp_path: Path) -> None:
    Writer(tmp_path / "one").generations(0, 1)
    run = RunStore(tmp_path).get("one")
    for figure in (reward_figure([run]), step_figure([run]), spread_figure(run)):
        seen = [trace for trace in curves(figure) if trace["line"].get("width")]
        assert seen and all("markers" in trace["mode"] for trace in seen)  # no line runs through one point


@pytest.mark.parametrize("bounds, reach", [((0.5, 1.5), 0.5), ((-1.0, 2.0), 2.0), ((0.9, 3.0), 2.0)])
def test_the_colours_of_the_heat_map_reach_to_the_bounds(tmp_path: Path, bounds, reach) -> None:
    Writer(tmp_path / "one", config(bounds=bounds)).generations(0, 3)
    heat = mean_figure(RunStore(tmp_path).get("one"))["data"][0]
    assert (heat["zmin"], heat["zmid"], heat["zmax"]) == (1 - reach, 1.0, 1 + reach)
