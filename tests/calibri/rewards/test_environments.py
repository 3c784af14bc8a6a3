"""Environments of their own: made once, with what is asked for, and never taken for whole half-built."""

from __future__ import annotations

import json
import os
import sys

import numpy
import PIL
import pytest
from PIL import Image

from calibri.cli import main
from calibri.errors import RewardError
from calibri.rewards import environments
from calibri.rewards.base import close_reward, load_reward
from tests.fresh import run_fresh


def picture(*levels):
    return Image.new("RGB", (8, 6), levels or (1, 2, 3))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("CALIBRI_CACHE")
    os.environ["CALIBRI_CACHE"] = str(folder)
    yield folder
    os.environ.pop("CALIBRI_CACHE")
    if before is not None:
        os.environ["CALIBRI_CACHE"] = before


def describe(folder, requirements, name="other.toml"):
    (folder / "other.py").write_text(
        "import numpy, PIL, tomli\n"
        "class Other:\n"
        "    revision = numpy.__version__\n"
        "    def __call__(self, images, prompts):\n"
        "        return numpy.array([numpy.asarray(i).mean() for i in images]) + len(tomli.__name__)\n"
    )
    path = folder / name
    path.write_text(
        f'place = "other.py:Other"\ndescription = "mean"\nrequirements = {json.dumps(requirements)}\n'
    )
    return path


PINNED = ["pillow==12.2.0", "numpy==2.4.5", "tomli==2.2.1"]


@pytest.mark.slow
def test_a_class_in_a_real_environment_of_pinned_packages(cache, tmp_path, capsys, monkeypatch):
    path = describe(tmp_path, PINNED)
    # What a kill in the middle leaves: an interpreter and no note that all is there.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    half = cache / "reward-environments" / environments.make_key(PINNED, version)
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").symlink_to(sys.executable)
    (half / "left-over").touch()
    reward = load_reward(str(path))
    assert not (half / "left-over").exists()
    said = capsys.readouterr().err
    assert "making its environment with" in said and "its environment is made: " in said
    assert str(tmp_path) not in said and str(cache) not in said
    assert reward.score([picture(), picture(9, 9, 9)], ["a", "b"]).tolist() == [7.0, 14.0]
    assert reward.info.revision.split("-")[0].endswith("+2.4.5") and numpy.__version__ != "2.4.5"
    [made] = [each for each in (cache / "reward-environments").iterdir() if each.is_dir()]
    installed = json.loads((made / "calibri.json").read_text())["installed"]
    assert set(PINNED) <= set(installed) and PIL.__version__ != "12.2.0"
    close_reward(reward)

    # What is there is used again without a word and without the network.
    monkeypatch.setattr(environments, "_run", lambda *_: pytest.fail("it was made again"))
    monkeypatch.chdir(tmp_path)
    assert main(["rewards", "test", "./other.toml", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and json.loads(captured.out)["revision"] == reward.info.revision


def test_what_cannot_be_installed_is_a_sentence(cache, tmp_path):
    with pytest.raises(RewardError, match=r"its environment cannot be made: .*calibri-has-no-such") as told:
        load_reward(str(describe(tmp_path, ["./calibri-has-no-such-package"], "wrong.toml")))
    assert str(cache) not in str(told.value) and str(tmp_path) not in str(told.value)


@pytest.mark.parametrize(
    "requirements, python, said",
    [
        (["numpy\n--index-url x"], "", "one requirement a text"),
        (["numpy"], "2.7", "a version of Python such as 3.10, got '2.7'"),
        (["numpy"], "3.99", "its environment needs Python 3.99, which is not here"),
    ],
)
def test_what_is_asked_for_is_checked(tmp_path, monkeypatch, requirements, python, said):
    monkeypatch.setattr(environments, "_find_uv", lambda: [])
    with pytest.raises(RewardError, match=f"^mine: .*{said}"):
        environments.make_environment(requirements, python, name="mine", folder=tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_place_is_that_of_the_content():
    make = environments.make_key
    assert make(["a", "b==1"], "3.11") == make(["b==1", "a"], "3.11")
    assert len({make(["a"], "3.11"), make(["a"], "3.12"), make(["a==1"], "3.11")}) == 3


def test_pillow_comes_in_any_case():
    assert environments._with_pillow(["numpy", ""], "") == ["numpy", "pillow"]
    assert environments._with_pillow(["Pillow>=10", "a"], "") == ["Pillow>=10", "a"]


def test_the_cache_is_that_of_the_environment_variable(monkeypatch, tmp_path):
    from calibri.files import cache_folder

    monkeypatch.setenv("CALIBRI_CACHE", str(tmp_path))
    assert cache_folder("x") == tmp_path / "x"
    monkeypatch.setenv("CALIBRI_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert cache_folder("x") == tmp_path / "other" / "calibri" / "x" and not (tmp_path / "other").exists()


def test_looking_for_pip_leaves_setuptools_as_it_is(tmp_path):
    """setuptools' finder, asked for pip, no longer stands in for distutils, which torch.compile needs."""
    code = (
        "from calibri.rewards import environments; found = environments._has_module('pip')\n"
        "import setuptools._distutils; print(found, environments._find_uv() is not None)"
    )
    assert run_fresh(code, tmp_path).strip().endswith("True")
