"""A table of docs/, and the cells of one."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[str]
Table = tuple[Row, list[Row]]


def code(text: object) -> str:
    return f"`{text}`"


def percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def written(table: Table) -> str:
    """A table as Markdown."""
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in cells)
