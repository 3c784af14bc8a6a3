"""Where the embedded world's files lie: in `assets/` of a checkout, or inside an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def find_assets() -> Path:
    """The folder with `tabletop/`, `rewards/`, `calibrations/` and `first-visit/`.

    `calibri/_assets` is a link to `assets/` in a checkout and a real folder in a wheel. A system without
    links uses the folder beside the package.
    """
    inside = (_PACKAGE / "_assets").resolve()
    return inside if inside.is_dir() else _PACKAGE.parent / "assets"


ASSETS = find_assets()
