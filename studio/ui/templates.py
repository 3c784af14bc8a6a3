"""HTML from templates that lie beside their pages. What people typed is escaped by itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri import words
from studio.ui.glossary import explain

if TYPE_CHECKING:
    from jinja2 import Environment

STUDIO = Path(__file__).resolve().parent.parent


@cache
def environment() -> Environment:
    """Templates are named from the folder studio/: `library/card.html`. Unknown names in them are errors."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(STUDIO),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters.update(
        three_digits=words.three_digits,
        signed=words.signed,
        grouped=words.grouped,
        duration=words.duration,
        explained=explain,
    )
    return made


def fill_template(name: str, **values: Any) -> str:
    """The HTML of a template with these values. A value that is HTML already comes as `markupsafe.Markup`."""
    return environment().get_template(name).render(**values).strip()
