"""The pages at the foot of a phone's screen, in reach of a thumb. Wider screens show Gradio's own bar."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from markupsafe import Markup

from studio.ui.elements import read_beside
from studio.ui.templates import fill_template

MAIN = ("Compare", "Scales", "Search", "Quick vote")  # the others are behind More


def draw_tabs(modules: Sequence[ModuleType], here: ModuleType) -> str:
    """The bar as HTML. `modules`: the pages of the navigation, in their order; `here`: the page it is on."""
    links = [(each.TITLE, each.PATH.lstrip("/") or "./", each is here) for each in modules]
    main = [link for link in links if link[0] in MAIN]
    rest = [link for link in links if link[0] not in MAIN]
    elsewhere = next((title for title, _, now in rest if now), "")
    style = Markup(read_beside(__file__, "tab_bar.css"))
    return fill_template("shell/tab_bar.html", style=style, main=main, rest=rest, elsewhere=elsewhere)
