"""The model bar in a real browser: what it says, what it costs, and another backbone under open pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.machine.host import ModelHost
from tests.browser.running import PATIENCE, filled
from tests.studio.launched import Launched, launched


def named(folder: Path, name: str, **blocks: int) -> Path:
    """A tiny pipeline that calls itself so."""
    from tests.tiny import tiny_flux

    tiny_flux(folder / name, **blocks)
    defaults = folder / name / "calibri.json"
    defaults.write_text(defaults.read_text(encoding="utf-8").replace('"tiny"', f'"{name}"'), encoding="utf-8")
    return folder / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def studio(folder: Path) -> Iterator[Launched]:
    host = ModelHost(device="cpu")
    host.load(str(named(folder, "first", doubles=2, singles=3)), wait=True)
    with launched(folder, host) as made:
        yield made


def wait_for_bar(page, words: str) -> None:
    page.wait_for_selector(f"#model-bar >> text=/{words}/", timeout=PATIENCE * 1000)


def test_another_backbone_is_loaded_and_the_open_page_follows(studio: Launched, page, folder: Path) -> None:
    other = named(folder, "second", doubles=1, singles=1)
    page.goto(f"{studio.url}/scales")
    filled(page)
    wait_for_bar(page, "first.* ready")
    page.wait_for_selector("#desk input[type=range]", timeout=PATIENCE * 1000)
    before = page.locator("#desk input[type=range]").count()
    wait_for_bar(page, f"{before} scales, one a layer")
    wait_for_bar(page, "GB of memory")

    page.click("#change-backbone")
    page.wait_for_selector("#backbone input")
    page.fill("#backbone input", str(folder))  # no pipeline there
    page.press("#backbone input", "Enter")
    page.click("#load-backbone")
    page.wait_for_selector("text=/holds no diffusers pipeline/")
    assert str(folder) not in page.locator("[data-testid=toast-body]").first.inner_text()
    wait_for_bar(page, "first.* ready")

    with studio.core.host.reserve("the search “Mine”"):
        page.fill("#backbone input", str(other))
        page.press("#backbone input", "Enter")
        page.click("#load-backbone")
        page.wait_for_selector("text=/cannot be changed while the search “Mine” runs/")
    page.click("#load-backbone")
    wait_for_bar(page, "second.* ready")
    wait_for_bar(page, "[0-9]+ scales, one a layer")
    page.wait_for_function(
        f"document.querySelectorAll('#desk input[type=range]').length !== {before}", timeout=PATIENCE * 1000
    )
    assert str(folder) not in page.locator("#model-bar").inner_text()
    assert studio.core.backbone_name == "second"


def test_more_settings_load_the_same_backbone_in_another_way(studio: Launched, page) -> None:
    page.goto(f"{studio.url}/quick")
    filled(page)
    wait_for_bar(page, "first.* ready")
    page.click("#change-backbone")
    page.wait_for_selector("#load-settings")
    page.click("#load-settings button")
    page.click("#load-vae-tiling input")
    page.fill("#load-dtype input", "bfloat16")
    page.press("#load-dtype input", "Enter")
    page.click("#load-backbone")
    wait_for_bar(page, "on cpu, bfloat16, VAE tiling")
    assert studio.core.host.options.vae_tiling
    page.wait_for_selector("#load-settings", state="hidden")


def test_an_idle_page_asks_for_less_than_a_kilobyte_a_tick(studio: Launched, page) -> None:
    page.goto(f"{studio.url}/quick")
    filled(page)
    wait_for_bar(page, "first.* ready")
    page.wait_for_timeout(8000)  # what comes with the page is there
    sizes = []

    def count(answer) -> None:
        if answer.request.method == "POST":
            sizes.append(len(answer.request.post_data or "") + len(answer.body()))

    page.on("response", count)
    page.wait_for_timeout(15_000)
    assert sizes and max(sizes) <= 1024, sizes
    assert page.locator("#model-bar .ready").is_visible()  # what is not redrawn stays


def test_a_backbone_that_cannot_be_loaded_leaves_no_promise(studio: Launched, page, folder: Path) -> None:
    broken = named(folder, "broken")
    for weights in (broken / "transformer").glob("*.safetensors"):
        weights.write_bytes(b"not weights")
    page.goto(f"{studio.url}/quick")
    filled(page)
    wait_for_bar(page, "first.* ready")
    page.click("#change-backbone")
    page.wait_for_selector("#backbone input")
    page.fill("#backbone input", str(broken))
    page.press("#backbone input", "Enter")
    page.click("#load-backbone")
    wait_for_bar(page, "broken.* is not loaded")
    page.wait_for_function("document.querySelector('#backbone-told').textContent.trim() === ''")
