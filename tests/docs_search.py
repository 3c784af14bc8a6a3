"""More of the tables of `tests/docs_tables.py`: of calibrated rewards."""

from __future__ import annotations

from calibri.rewards.catalog import CATALOG


def reward_odds() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The temperature of each reward, and why it is so."""
    rows = []
    for spec in CATALOG.values():
        shown = "" if spec.temperature is None else f"{spec.temperature:.4g}"
        rows.append((f"`{spec.name}`", spec.kind, shown, spec.temperature_source))
    return ("name", "kind", "temperature", "why"), rows
