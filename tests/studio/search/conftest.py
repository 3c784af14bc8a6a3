"""What the tests of the page Search share: its services over the tiny backbone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.search.jobs import Searches


@pytest.fixture
def searches(stocked: Core, tmp_path: Path) -> Iterator[Searches]:
    made = Searches(stocked.host, tmp_path / "runs", tmp_path / "assets")
    yield made
    made.close()


@pytest.fixture
def sweeps(stocked: Core, searches: Searches, tmp_path: Path) -> Iterator[Sweeps]:
    made = Sweeps(tmp_path / "sweeps", stocked.host, pace=searches.pace)
    yield made
    made.close()
