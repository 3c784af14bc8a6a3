"""What tests of several parts of the library share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny pipeline of the FLUX family, called tiny-flux."""
    from tests.tiny import tiny_flux

    path = tmp_path_factory.mktemp("saved") / "tiny-flux"
    tiny_flux(path)
    return path
