"""A studio over a tiny random pipeline of real classes: no stand-ins."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibri.calibration.artifact import Calibration, Member
from studio.calibrations import CalibrationStore
from studio.core import Core
from studio.machine.host import ModelHost
from studio.settings import Settings
from studio.visitors import Visitors


def load_host(folder: Path) -> ModelHost:
    """A host with the backbone of this folder, four pictures at once."""
    made = ModelHost(device="cpu", batch_size=4)
    made.load(str(folder), wait=True)
    return made


def make_core(host: ModelHost, folder: Path) -> Core:
    """A studio whose stores lie in this folder and are empty."""
    return Core(
        settings=Settings(backbone="tiny", data=folder / "data"),
        host=host,
        calibrations=CalibrationStore(folder / "built-in", folder / "data" / "calibrations"),
        assets=folder,
    )


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny import tiny_flux

    folder = tmp_path_factory.mktemp("backbones") / "tiny"
    tiny_flux(folder)
    return folder


@pytest.fixture(scope="session")
def host(tiny_folder: Path) -> ModelHost:
    return load_host(tiny_folder)


@pytest.fixture
def core(host: ModelHost, tmp_path: Path) -> Core:
    """Fresh stores and visitors over the one loaded tiny backbone; no calibrations yet."""
    return make_core(host, tmp_path)


@pytest.fixture
def stocked(core: Core, tmp_path: Path) -> Core:
    """The same with one calibration and one ensemble at layer granularity."""
    layout = core.host.wait_ready().layout("layer")
    ones = (1.0,) * len(layout.names)
    bent = tuple(0.6 + 0.1 * i for i in range(len(layout.names)))
    for title, members in (
        ("Bent", (Member(scales=bent),)),
        ("Pair", (Member(scales=bent, weight=1.5), Member(scales=ones, weight=-0.5, condition="negative"))),
    ):
        made = Calibration(
            title=title, backbone="tiny", granularity="layer", names=layout.names, members=members, found={}
        )
        made.save(tmp_path / "built-in" / f"{title.lower()}.json")
    return core


@pytest.fixture
def visitor() -> str:
    return Visitors.new_id()
