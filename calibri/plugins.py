"""What other installed packages bring by entry points. A broken one is told of; it breaks nothing else."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import Distribution, distributions
from typing import Any, NamedTuple

from calibri.errors import CalibriError
from calibri.words import without_paths


class Plugin(NamedTuple):
    """One entry point. `place`: `module:object`. `problem`: why it cannot be read; empty where it can."""

    name: str
    place: str
    package: str
    problem: str = ""

    def load(self) -> Any:
        """The object. Raises CalibriError that says what is wrong with it, whatever its module raises."""
        if self.problem:
            raise CalibriError(f"{self.package}: {self.problem}")
        return import_place(self.place)


def find_plugins(group: str) -> list[Plugin]:
    """The entry points of this group, sorted by name. A package whose list cannot be read is one of them."""
    seen: set[str] = set()
    found: list[Plugin] = []
    for distribution in distributions():
        package = _name(distribution)
        if package in seen:  # the first on the path counts
            continue
        seen.add(package)
        found += _read(distribution, package, group)
    return sorted(found, key=lambda plugin: plugin.name)


def _read(distribution: Distribution, package: str, group: str) -> list[Plugin]:
    try:
        points = [point for point in distribution.entry_points if point.group == group]
        return [Plugin(point.name, point.value.split("[")[0].strip(), package) for point in points]
    except Exception:  # what a broken file raises differs from one Python to the next
        try:
            text = distribution.read_text("entry_points.txt") or ""
        except Exception:
            return []
        problem = "its entry_points.txt cannot be read: expected lines NAME = module:object"
        return [Plugin(package, "", package, problem)] if f"[{group}]" in text else []


def _name(distribution: Distribution) -> str:
    try:
        return str(distribution.metadata["Name"])
    except Exception:
        return "a package without a name"


def import_place(place: str) -> Any:
    """The object at `module:object`. Raises CalibriError, whatever the module raises when it is imported."""
    module, _, attribute = place.partition(":")
    try:
        found = importlib.import_module(module.strip())
        return functools.reduce(getattr, attribute.strip().split("."), found)
    except (Exception, SystemExit) as error:
        raise CalibriError(f"{place} cannot be imported: {tell(error)}") from error


def tell(error: BaseException) -> str:
    """An error of other people's code in one line, without folders: `ImportError: no module named x`."""
    said = " ".join(without_paths(str(error)).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
