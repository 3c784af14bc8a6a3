"""The board of all calibrations over all quick votes, as HTML: for the pages Quick vote and Results."""

from __future__ import annotations

from typing import Any

from calibri.words import count
from studio.studies.results.board import Board, Group, Standing, say_groups
from studio.ui.elements import read_beside
from studio.ui.templates import fill_template
from studio.ui.theme import ARM_COLOURS, CALIBRATED

WIDTH, MARGIN = 200, 8  # of the drawn interval, in its own units
MOST_WAITING = 30  # names of calibrations without a vote


def board_style() -> str:
    """The style that boards need on a page."""
    return f"<style>{read_beside(__file__, 'tables.css')}</style>"


def draw_board(board: Board) -> str:
    """One table for each group of arms that met, the strongest first, and what the groups mean in words."""
    more = len(board.waiting) - MOST_WAITING
    waiting = [*board.waiting[:MOST_WAITING], *([f"and {more} more"] if more > 0 else [])]
    groups = [{"title": _title(group), "rows": _rows(group)} for group in board.groups]
    return fill_template("studies/pages/board.html", said=say_groups(board), groups=groups, waiting=waiting)


def _title(group: Group) -> str:
    met = f"{group.met} of {count(group.pairs, 'pair')} met"
    return f"{count(len(group.standings), 'arm')}, {count(group.votes, 'vote')}; {met}"


def _rows(group: Group) -> list[dict[str, Any]]:
    low = min(-1.0, *(s.low for s in group.standings))
    high = max(1.0, *(s.high for s in group.standings))

    def place(value: float) -> str:
        return f"{MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low):.1f}"

    def row(s: Standing) -> dict[str, Any]:
        return {
            "name": s.name,
            "said": f"{s.strength:+.2f} [{s.low:+.2f}, {s.high:+.2f}]",
            "colour": ARM_COLOURS.get(s.kind, CALIBRATED),
            "zero": place(0.0),
            "low": place(s.low),
            "high": place(s.high),
            "value": place(s.strength),
            "votes": s.votes,
            "wins": s.wins,
            "ties": s.ties,
        }

    return [row(s) for s in group.standings]
