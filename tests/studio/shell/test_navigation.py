"""How one gets from page to page, and who sees that there are others: bars above and below, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest

from studio.compare import page as compare
from studio.library import page as library
from studio.machine.host import ModelHost
from studio.scales import page as scales
from studio.shell.app import pages
from studio.shell.tab_bar import MAIN, draw_tabs
from studio.studies.pages import vote
from tests.studio.launched import Launched, launched
from tests.studio.search.runfolders import Writer


@pytest.fixture(scope="module")
def studio(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    folder = tmp_path_factory.mktemp("navigation")
    for name in ("20260101-one", "20260102-two"):
        Writer(folder / "data" / "runs" / name).generations(0, 2)
    with launched(folder, host) as made:
        yield made


def open_page(studio: Launched, client: httpx.Client, elem_id: str, query: str) -> Any:
    """What the component of this id is sent when its page opens at an address with this query."""
    for number in studio.indices("on_open"):
        outputs = studio.app.fns[number].outputs
        found = [i for i, block in enumerate(outputs) if getattr(block, "elem_id", "") == elem_id]
        if found:
            body = {"data": [None] * len(studio.app.fns[number].inputs), "fn_index": number}
            answer = client.post(f"/gradio_api/run/predict{query}", json={**body, "session_hash": "abc"})
            assert answer.status_code == 200, answer.text
            return answer.json()["data"][found[0]]
    raise AssertionError(f"no page fills {elem_id} when it opens")


def test_an_address_opens_a_search(studio: Launched) -> None:
    with studio.client() as client:
        client.get("/search")
        for query, wanted in (
            ("?run=20260101-one", "20260101-one"),
            ("?run=20260102-two", "20260102-two"),
            ("?run=../../etc", "20260102-two"),  # the newest, as without a link
            ("", "20260102-two"),
        ):
            shown = open_page(studio, client, "search-run", query)
            assert shown["value"] == wanted, query


def test_a_rater_sees_no_page_of_the_studio(studio: Launched) -> None:
    """The navigation of each page, as its configuration tells the browser."""
    of_page: dict[str, list[bool]] = {}
    bars: dict[str, int] = {}
    for block_id, page in ((i, b.page) for i, b in studio.app.blocks.items()):
        block = studio.app.blocks[block_id]
        if isinstance(block, gr.Navbar):
            of_page.setdefault(page, []).append(bool(block.visible))
        if getattr(block, "elem_id", "") == "tab-bar":
            bars[page] = bars.get(page, 0) + 1
    assert of_page.pop("vote") == [False] and "vote" not in bars
    assert len(of_page) == len(pages(studio.studio)) - 1
    assert all(shown == [True] for shown in of_page.values()) and set(bars) == set(of_page)
    assert not vote.NAVIGATION


def test_the_bar_below_names_the_main_pages_and_hides_none() -> None:
    html = draw_tabs([compare, scales, library], scales)
    links = re.findall(r"<a href='([^']*)'( aria-current='page')?>([^<]*)</a>", html)
    assert links == [
        ("./", "", "Compare"),
        ("scales", " aria-current='page'", "Scales"),
        ("library", "", "Library"),
    ]
    assert "<summary>More</summary>" in html and set(MAIN) >= {"Compare", "Scales"}
    assert "<summary class='here'>Library</summary>" in draw_tabs([compare, scales, library], library)
    assert "<details>" not in draw_tabs([compare, scales], compare)


def test_a_link_copies_where_the_clipboard_is_refused_too() -> None:
    """The script is on every page; what it does in a browser is told in tests/browser."""
    from studio.ui.theme import head

    assert "calibriCopyLink" in head() and "execCommand" in head()
    assert Path(compare.__file__).with_name("past.js").is_file()
