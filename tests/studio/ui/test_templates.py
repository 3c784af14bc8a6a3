"""Templates: what people typed stays text, and a slip in a template does not pass in silence."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from studio.ui.templates import STUDIO, environment, fill_template


def test_typed_text_is_escaped_and_markup_is_not() -> None:
    template = environment().from_string("<b title='{{ text }}'>{{ text }}</b>{{ made }}")
    filled = template.render(text="<i>'&", made=Markup("<hr>"))
    assert filled == "<b title='&lt;i&gt;&#39;&amp;'>&lt;i&gt;&#39;&amp;</b><hr>"


def test_numbers_are_written_as_everywhere() -> None:
    template = environment().from_string("{{ 1234|grouped }} {{ -0.5|three_digits }} {{ 0.051|signed }}")
    assert template.render() == "1\u202f234 −0.500 +0.05"


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ nobody }}").render()


@pytest.mark.parametrize("path", sorted(STUDIO.rglob("*.html")), ids=lambda p: p.name)
def test_every_template_of_the_studio_can_be_read(path) -> None:
    environment().get_template(path.relative_to(STUDIO).as_posix())


def test_no_template_switches_escaping_off() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in STUDIO.rglob("*.html")}
    assert [name for name, text in texts.items() if "|safe" in text.replace(" ", "")] == []


def test_a_template_is_found_by_its_room() -> None:
    with pytest.raises(Exception, match="nowhere"):
        fill_template("ui/nowhere.html")
