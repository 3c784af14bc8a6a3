"""Rewards below the model bar, without a browser: what is said of them, who may load, what a load does."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from calibri.errors import CalibriError, RewardError
from studio.core import Core
from studio.machine.host import ModelHost
from studio.machine.queue import HostError
from studio.settings import Settings
from studio.shell.model_bar import words
from studio.shell.reward_panel import describe_rewards, draw_table, list_names, load_reward
from tests.studio.asking import request_of

GOLDEN = Path(__file__).parents[2] / "golden" / "rewards"


def load(core: Core, name: str, source: str = "", person: str | None = None) -> str:
    """Load a reward and wait for its end. Returns what was said at first."""
    said = load_reward(core, name, source, request_of(core, person))
    end = time.monotonic() + 60
    while not core.rewards.states() or any(s.phase == "loading" for s in core.rewards.states()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return said


def test_the_bar_and_the_table_name_what_is_loaded(core: Core, visitor: str) -> None:
    assert describe_rewards(core) == "" and not any(name.startswith("tabletop") for name in list_names(core))
    said = load(core, "pickscore", str(GOLDEN / "pickscore"))
    assert said == "pickscore is loading. Its scores appear under new pictures when it is ready."
    assert describe_rewards(core) == "rewards: pickscore" and "rewards: pickscore" in words(
        core, None, visitor
    )
    table = draw_table(core)
    assert "loaded on cpu, weights of pickscore: memory " in table and str(GOLDEN) not in table
    assert table.index("<th class='name'>pickscore") < table.index("<th class='name'>hpsv2")
    with core.rewards.using(["pickscore"], "cpu", "the search “<b>Mine</b>”"):
        assert "used by the search “&lt;b&gt;Mine&lt;/b&gt;”" in draw_table(core)
    core.rewards.unload("pickscore")
    assert describe_rewards(core) == "" and "loaded on" not in draw_table(core)
    load(core, "pickscore")  # the folder that was named stays for this studio
    assert describe_rewards(core) == "rewards: pickscore"


def test_what_cannot_be_loaded_is_a_sentence(core: Core, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    load(core, "pickscore", str(tmp_path))
    assert describe_rewards(core) == "pickscore could not be loaded"
    assert "not loaded: pickscore: " in draw_table(core) and str(tmp_path) not in draw_table(core)
    for name in (None, "", "beauty", "tabletop-align", ["pickscore"]):
        with pytest.raises(HostError, match="Choose a reward of the list"):
            load_reward(core, name, "", None)


def test_weights_are_named_by_organisers_alone(host: ModelHost, core: Core, tmp_path: Path) -> None:
    public = replace_settings(core, demo=True, auth="ann:secret")
    with pytest.raises(CalibriError, match="only its organisers"):
        load_reward(public, "pickscore", "", request_of())
    outside = replace_settings(core, host="0.0.0.0")
    with pytest.raises(HostError, match="only its organisers may name weights"):
        load_reward(outside, "pickscore", "owner/name", request_of(client="10.0.0.7"))
    assert not public.rewards.states() and not outside.rewards.states()
    assert load(public, "pickscore", str(GOLDEN / "pickscore"), "ann").startswith("pickscore is loading")


def replace_settings(core: Core, **settings: object) -> Core:
    return replace(core, settings=Settings(backbone="tiny", data=core.settings.data, **settings))


def test_a_source_that_fits_nothing_leaves_the_others(core: Core) -> None:
    with pytest.raises(RewardError, match="not loaded"):
        core.rewards.unload("hpsv3")
    assert core.rewards.loading.sources == {}
