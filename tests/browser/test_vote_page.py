"""The rater's page in a browser where something is missing: pictures, or pairs that nobody else looks at."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from studio.studies.http import routes
from studio.studies.storage.study_store import now
from studio.studies.studies import open_studies
from tests.browser.running import PATIENCE
from tests.studio.studies.conftest import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "data")
    made.studies.close()
    made.studies = open_studies(made.folder, None, clock=now)  # a browser's clock cannot be moved
    yield made
    made.studies.close()


@pytest.fixture
def address(world: World) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = Starlette(routes=routes(world.studies))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def page(browser):
    context = browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    yield context.new_page()
    context.close()


def test_a_pair_whose_picture_is_lost_is_skipped_and_the_next_one_is_voted_on(world, address, page):
    study = world.study(prompts=2, extra_answers=())
    lost = world.studies.store.pairs(study.id)
    world.studies.images.path(str(lost[0].image_x)).unlink()
    page.goto(f"{address}/ballot?study={study.id}")
    page.click("#vote-start")
    for _ in range(2):
        prompt = page.inner_text(".vote .prompt")
        if prompt == lost[0].prompt:
            page.click("#vote-skip")
        else:
            page.click(".vote .answers button:not([disabled])")
        page.wait_for_function("p => document.querySelector('.vote .prompt')?.textContent !== p", arg=prompt)
    page.wait_for_selector(".vote >> text=Thank you")
    winners = {pair: winner for pair, winner in world.studies.db.read("SELECT pair, winner FROM votes")}
    assert winners[lost[0].id] == "skip"
    assert winners[lost[1].id] in ("x", "y")


def test_who_finds_only_places_that_are_held_waits_and_goes_on_by_itself(world, address, page):
    study = world.study(prompts=1, votes_per_pair=1)
    other = world.rater(study).join()
    for side in ("left", "right"):
        world.studies.voting.pictures.read(other.token, side)
    page.goto(f"{address}/ballot?study={study.id}")
    page.clock.install()
    page.click("#vote-start")
    page.wait_for_selector(".vote >> text=come back in 3 minutes")
    other.vote("skip")  # and so the pair still needs a vote
    page.clock.fast_forward(61_000)
    page.wait_for_selector(".vote .answers")
    page.clock.resume()
    page.click(".vote .answers button:not([disabled])")
    page.wait_for_selector(".vote >> text=Thank you")


def test_pictures_in_one_place_are_flipped_and_answers_open_once_both_were_seen(world, address, page):
    study = world.study(prompts=2, presentation="flip", own_result=True)
    page.goto(f"{address}/ballot?study={study.id}")
    page.click("#vote-start")
    page.wait_for_selector(".vote >> text=This is A.")
    front, back = page.locator(".vote [data-side=left] img"), page.locator(".vote [data-side=right] img")
    assert front.is_visible() and not back.is_visible()
    assert front.bounding_box() == back.bounding_box()
    page.keyboard.press("1")
    assert page.locator(".vote .answers button:not([disabled])").count() == 0
    page.keyboard.press("f")
    page.wait_for_selector(".vote .answers button:not([disabled])")
    assert back.is_visible() and not front.is_visible()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".vote >> text=2 of 2")
    page.wait_for_selector(".vote >> text=This is A.")
    page.click(".vote .pair")  # a tap flips, too
    page.click(".vote .answers button:not([disabled])")
    page.wait_for_selector(".vote >> text=You answered: A 1 time, B 1 time.")
