"""The search of two minutes: real, short, joined by a second press, and in Compare at its end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from calibri.errors import SearchError
from calibri.search.config import Budget
from studio.compare.comparison import get_history
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.rendering.arms import list_choices
from studio.search import quick
from studio.search.filmstrip import Strip
from studio.search.form import Order
from studio.search.jobs import Searches
from studio.search.two_minutes import Handlers
from tests.studio.search.test_search import SMALL, read_page


def strip(images: int, shade: int) -> Strip:
    picture = Image.new("RGB", (16, 16), (shade,) * 3)
    return Strip(("a cube",), (picture,), (picture,), images, False)


def test_pictures_of_a_search_are_kept_in_order_with_the_first() -> None:
    growth = quick.Growth()
    assert growth.take("a", None) == []
    for i in range(1, 15):
        growth.take("a", strip(10 * i, i))
        growth.take("a", strip(10 * i, i))  # the same one again
    kept = [images for images, _ in growth.take("a", None)]
    assert kept[0] == 10 and kept[-1] == 140 and len(kept) == quick.MOST_FRAMES and kept == sorted(kept)
    assert growth.take("b", None) == []


def test_a_backbone_without_a_reward_gets_a_sentence(stocked: Core, sweeps: Sweeps) -> None:
    with pytest.raises(SearchError, match=r"Expected a reward for .* got none"):
        quick.order_quick(stocked, sweeps, stocked.visitors.new_id())


def test_it_is_a_real_search_that_ends_by_time(
    stocked: Core, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = quick.core_usual(stocked) | {"rewards": ["tabletop-quality"]}
    monkeypatch.setattr(quick, "core_usual", lambda core: usual)  # the tiny backbone has no reward of its own
    order = quick.order_quick(stocked, sweeps, stocked.visitors.new_id())
    assert order.budget == Budget(minutes=quick.MINUTES) and quick.MINUTES < 2
    assert (order.config.held_out_pairs, order.config.convergence) == (quick.HELD_OUT, "none")
    assert order.title == quick.TITLE and order.config.reward_names[0] == "tabletop-quality"


def test_a_press_searches_shows_pictures_and_ends_in_compare(
    stocked: Core, searches: Searches, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(core: Core, sweeps: Sweeps, visitor: object) -> Order:
        return read_page(core, sweeps, visitor, SMALL)._replace(title=quick.TITLE)

    monkeypatch.setattr(quick, "order_quick", small)  # the tiny backbone has no reward of its own
    on, visitor = Handlers(stocked, searches, sweeps), stocked.visitors.new_id()
    request = SimpleNamespace(username=None, client=None, cookies={}, headers={})
    run_id, start, stop = on.start(visitor, request)
    assert not start.interactive and stop.interactive
    assert (
        quick.start_quick(stocked, searches, sweeps, visitor) == run_id or quick.find_alive(searches) is None
    )
    searches.wait(run_id, 300)
    on.tick(run_id, "", "", "")
    searches.film.wait(120)
    _, drawn, ended = on.tick(run_id, "", "", "")
    assert ended == run_id and drawn.startswith("1:") and "finished" in on.show_card(run_id)
    html, curve = on.show_growth(run_id)
    assert html.count("<img") == 2 and "found so far" in html and curve["data"]
    made = on.compare(visitor, ended)
    [newest, *_] = get_history(stocked, visitor)
    assert newest.id == made and [shot.arm.kind for shot in newest.shots[:2]] == ["base", "calibrated"]
    assert all(shot.image is not None for shot in newest.shots[:2])
    words = [w for w, _ in list_choices(stocked, stocked.visitors.of(visitor))]
    assert f"{quick.TITLE} (from a search)" in words
    assert on.start_wished(visitor, "", request)[0] == ""  # it is over: nothing starts by itself
