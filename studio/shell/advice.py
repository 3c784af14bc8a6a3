"""Before a backbone is loaded: what it needs here, and which mode suits this machine."""

from __future__ import annotations

from functools import cache

from calibri.backbones.advice import Advice, advise
from calibri.backbones.catalog import resolve
from calibri.backbones.machine import Machine, find_machine
from calibri.errors import BackboneError
from calibri.words import without_paths
from studio.core import Core
from studio.ui.elements import aside, show_remark


@cache
def _machine() -> Machine:
    return find_machine()


def advice_html(core: Core, name: object, machine: Machine | None = None) -> str:
    """What `calibri doctor` says of a backbone that somebody is about to load, as HTML; empty for nothing."""
    if not isinstance(name, str) or not name.strip():
        return ""
    text = name.strip()
    try:
        advice = advise(resolve(core.host.known.get(text, text)), machine or _machine())
    except BackboneError as error:
        return show_remark(without_paths(str(error)))
    return "".join(map(aside, tell(advice)))


def tell(advice: Advice) -> list[str]:
    """The suggestion, then what is to be done."""
    suggestion = advice.suggestion
    if suggestion is None:
        return [without_paths(note) for note in advice.notes]
    words = f"Suggested here: {suggestion.words}." if suggestion.need is not None else f"{suggestion.words}."
    return [words, *(f"{note[0].upper()}{note[1:]}." for note in map(without_paths, advice.notes))]
