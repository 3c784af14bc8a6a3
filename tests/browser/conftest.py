"""Browser tests drive a real Chromium over a studio of its own with a tiny pipeline of real classes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.browser.running import (
    CHROMIUM_ARGUMENTS,
    PATIENCE,
    SharedStudio,
    Studio,
    Watched,
    chromium,
    free_port,
    running_studio,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    path = chromium()
    if path is None:
        sentence = "No Chromium here: install it (on Debian: apt-get install chromium) for the browser tests."
        if os.environ.get("CI") == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        yield made
        made.close()


@pytest.fixture(scope="session")
def tiny_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio over a tiny pipeline of 4 double and 8 single blocks, with a calibration and an ensemble."""
    from calibri.backbones.layouts import Layout
    from calibri.backbones.sites import sites_of
    from calibri.calibration.artifact import Calibration, Member
    from tests.tiny import tiny_flux

    folder = tmp_path_factory.mktemp("studio")
    pipeline = tiny_flux(folder / "tiny", doubles=4, singles=8)
    names = Layout.from_sites(sites_of(pipeline.transformer), "layer").names
    bent = Member(scales=tuple(0.7 + 0.04 * i for i in range(len(names))))
    ones = Member(scales=(1.0,) * len(names), weight=-0.5, condition="negative")
    for title, members in (("Bent", (bent,)), ("Pair", (bent.model_copy(update={"weight": 1.5}), ones))):
        made = Calibration(title=title, backbone="tiny", granularity="layer", names=names, members=members)
        made.save(folder / "data" / "calibrations" / f"{title.lower()}.json")
    with running_studio(folder, "--backbone", str(folder / "tiny")) as studio:
        yield studio
        assert "Traceback" not in studio.text(), studio.text()


@pytest.fixture(scope="module")
def shared_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedStudio]:
    """A studio in this process over a tiny pipeline, without prepared pictures and calibrations."""
    from studio.calibrations import CalibrationStore
    from studio.core import Core
    from studio.machine.host import ModelHost
    from studio.settings import Settings
    from studio.shell.app import Studio, build_app, launch_options
    from studio.shell.lanes import open_queue
    from studio.studies.studies import open_studies
    from tests.tiny import tiny_flux

    folder = tmp_path_factory.mktemp("shared")
    tiny_flux(folder / "tiny")
    host = ModelHost(device="cpu")
    host.load(str(folder / "tiny"), wait=True)
    core = Core(
        settings=Settings(backbone="tiny", data=folder / "data"),
        host=host,
        calibrations=CalibrationStore(folder / "built-in", folder / "own"),
        assets=folder,
    )
    studio = Studio(core, open_studies(folder / "data", host))
    app = open_queue(build_app(studio), studio.core)
    _, url, _ = app.launch(server_port=free_port(), prevent_thread_lock=True, **launch_options(studio))
    yield SharedStudio(url.rstrip("/"), host)
    app.close(verbose=False)
    studio.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Errors in the console, failed requests and other hosts; a test that expects one takes it out."""
    made = Watched()
    yield made
    assert made.problems == []


@pytest.fixture
def page(browser, watched: Watched) -> Iterator[object]:
    """A new visitor at 1280×800."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE * 1000)
    made = context.new_page()
    watched.watch(made)
    yield made
    context.close()
