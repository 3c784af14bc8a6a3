"""Rewards of one's own: by a call, by an entry point, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import calibri
from calibri.errors import RewardError
from calibri.rewards import base
from tests.fresh import run_fresh

INFO = {"role": "reward", "version": "1", "description": "mean red", "range_hint": (0.0, 1.0)}
MODULE = """
import numpy as np
from calibri import RewardInfo

class Redness:
    info = RewardInfo(name="redness", role="reward", version="1", description="red", range_hint=(0.0, 1.0))

    def __init__(self, device):
        self.device = device

    def score(self, images, prompts):
        return np.array([np.asarray(image, dtype=np.float64)[..., 0].mean() / 255 for image in images])
"""


class Redness:
    info = calibri.RewardInfo(name="redness", **INFO)

    def __init__(self, device: str) -> None:
        self.device = device

    def score(self, images, prompts):
        return np.zeros(len(images))


@pytest.fixture(autouse=True)
def own_names(monkeypatch):
    monkeypatch.setattr(base, "_REGISTERED", {})


def test_a_registered_reward_is_known_and_gets_the_device():
    calibri.register_reward("redness", Redness)
    assert "redness" in calibri.known_rewards()
    assert calibri.load_reward("redness", device="cpu").device == "cpu"


def test_a_place_is_imported_when_the_reward_is_loaded(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    calibri.register_reward("redness", "my_rewards_of_a_test:Redness")
    with pytest.raises(RewardError, match="redness: my_rewards_of_a_test:Redness cannot be imported"):
        calibri.load_reward("redness")
    (tmp_path / "my_rewards_of_a_test.py").write_text(MODULE)
    assert calibri.load_reward("redness", device="cuda:1").device == "cuda:1"
    calibri.register_reward("absent", "my_rewards_of_a_test:Absent")
    with pytest.raises(RewardError, match="Absent"):
        calibri.load_reward("absent")


def test_a_name_is_taken_once_unless_it_is_replaced():
    calibri.register_reward("redness", Redness)
    with pytest.raises(RewardError, match="new name"):
        calibri.register_reward("redness", Redness)
    calibri.register_reward("redness", lambda device: Redness("replaced"), replace=True)
    assert calibri.load_reward("redness").device == "replaced"
    with pytest.raises(RewardError, match="there already"):
        calibri.register_reward("tabletop-align", Redness, replace=True)


@pytest.mark.parametrize("name", ["", "a:b", "a,b", "a b", None])
def test_names_that_no_command_could_write_are_refused(name):
    with pytest.raises(RewardError, match="expected a name"):
        calibri.register_reward(name, Redness)


@pytest.mark.parametrize("factory", ["Redness", "a.b", 3, None])
def test_what_is_no_factory_is_refused(factory):
    with pytest.raises(RewardError, match="expected a function"):
        calibri.register_reward("redness", factory)


def test_what_is_no_reward_is_refused():
    calibri.register_reward("redness", lambda device: object())
    with pytest.raises(RewardError, match=r"RewardInfo.*got object"):
        calibri.load_reward("redness")


def test_an_entry_point_makes_a_reward_known_to_every_process(tmp_path):
    (tmp_path / "my_package.py").write_text(MODULE)
    dist = tmp_path / "my_package-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (dist / "entry_points.txt").write_text("[calibri.rewards]\nredness = my_package:Redness\n")
    code = (
        "import calibri; print(calibri.known_rewards()[-1], calibri.load_reward('redness').info.description)"
    )
    assert run_fresh(code, tmp_path, tmp_path).strip() == "redness red"
