"""The versions of torch that a Space may get: what the code uses is in them, and what is asked for fits."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tests.house import ROOT
from tests.torch_names import LIST, Wheel, list_names

OFFERED = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")  # by ZeroGPU, August 2026


def read_list(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {each.name: each for each in found}


def test_every_name_of_torch_was_looked_up_in_the_oldest_and_the_newest_offered_version() -> None:
    known = LIST.read_text(encoding="utf-8").split()
    assert set(list_names()) - set(known) == set(), (
        "look them up: python -m tests.torch_names with wheels of torch 2.8.0 and 2.11.0 "
        "(pip download --no-deps), then add them to the list"
    )


def test_a_name_that_a_version_lacks_is_found(tmp_path: Path) -> None:
    path = tmp_path / "torch.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("torch/__init__.py", "from torch.functional import *\nfloat32 = 1\n")
        wheel.writestr("torch/functional.py", "def einsum(): ...\n")
        wheel.writestr("torch/nn/__init__.py", "from torch.nn.modules import Linear as Linear\n")
        wheel.writestr("torch/_C/_VariableFunctions.pyi", "def zeros(): ...\n")
    old = Wheel(path)
    there = (
        "torch",
        "torch.float32",
        "torch.einsum",
        "torch.zeros",
        "torch.nn.Linear",
        "torch.nn.functional",
    )
    assert [name for name in there if not old.has(name)] == ["torch.nn.functional"]
    assert not old.has("torch.nn.Buffer") and not old.has("torch.ones")


def test_a_space_installs_what_a_wheel_does_with_a_torch_of_zero_gpu() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wheel = read_list(project["dependencies"])
    space = read_list((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    torch, widest = space.pop("torch"), wheel.pop("torch")
    assert {name: str(each) for name, each in space.items()} == {n: str(e) for n, e in wheel.items()}
    assert all(Version(version) in torch.specifier for version in OFFERED)
    assert Version("2.12.0") not in torch.specifier and Version("2.7.1") not in torch.specifier
    assert all(Version(version) in widest.specifier for version in (*OFFERED, "2.13.0"))
    assert Version("3.12") in Requirement(f"python{project['requires-python']}").specifier
