"""The rooms of the code and the arrows between them, read from its imports: for tests/test_house.py, and for
docs/architecture.md. `python -m tests.house` draws docs/architecture.svg anew.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("calibri/**/*.py"), *ROOT.glob("studio/**/*.py"), ROOT / "app.py"])
PICTURE = ROOT / "docs" / "architecture.svg"

Floors = tuple[dict[str, str], ...]

#: The rooms of the studio and what they are for, one floor a dictionary, the highest first. A module may
#: import its own room and those of lower floors; rooms of one floor do not know each other.
STUDIO_FLOORS: Floors = (
    {"shell": "starts the studio, puts its pages together, the bar above them, the API"},
    {"search": "searches in the background, live", "library": "saved calibrations"},
    {"diagnose": "sweeps: which blocks matter"},
    {"compare": "arms side by side"},
    {"scales": "the desk", "quick_vote": "blind votes on pictures of one's own"},
    {"studies": "human preference studies: plan, deal, take votes, analyse"},
    {"rendering": "what all pages that render share: asks, arms, pictures"},
    {"ui": "elements, events, errors, charts, templates"},
    {"core": "what every page is given"},
    {
        "machine": "the loaded model and the order in which it is used",
        "access": "sign-in, rights, limits",
    },
    {"calibrations": "saved calibrations on disk", "visitors": "what is remembered of a browser"},
    {"settings": "options and environment", "examples": "which shipped examples were put away"},
)

CALIBRI_FLOORS: Floors = (
    {"cli": "the command `calibri`", "tabletop.train": "how the embedded world was trained"},
    {"commands": "its subcommands, one file each"},
    {"api": "the names that `import calibri` offers"},
    {"analysis": "sweeps over blocks, tables of rewards"},
    {"search": "CMA-ES: candidates, scores, journal, resume"},
    {"rewards": "images and prompts to scores", "sampling": "scales in the transformer, rendering"},
    {"calibration": "the file, and what can be done with it"},
    {
        "backbones": "families of transformers, where their sites are, loading",
        "prompts": "prompt files, and the sets that come along",
    },
    {"tabletop": "the embedded world: scenes, captions, nets"},
    {"preference": "win rates, intervals, Bradley–Terry"},
    {"interval": "paired intervals", "plugins": "what other packages bring by entry points"},
    {
        "assets": "where the embedded weights lie",
        "console": "what a terminal of any encoding is told",
        "files": "files that are whole or not there",
        "memory": "the allocator's settings",
        "ranges": "what a picture may be asked for",
        "threads": "OpenMP's settings",
        "words": "numbers and durations for people",
    },
    {"errors": "CalibriError and its kinds"},
)

FLOORS: dict[str, Floors] = {"studio": STUDIO_FLOORS, "calibri": CALIBRI_FLOORS}


def name_file(path: Path) -> str:
    """The path from the root of the checkout."""
    return path.relative_to(ROOT).as_posix()


def name_module(path: Path) -> str:
    """`studio.search.page`"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def list_imports(path: Path) -> Iterator[str]:
    """Modules that a file imports at run time; what only type checkers see does not count."""
    tree = parse(path)
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for part in node.body for inner in ast.walk(part))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def list_rooms(package: str) -> dict[str, int]:
    """room → its floor, 0 at the bottom, in the order of FLOORS."""
    floors = FLOORS[package]
    return {room: len(floors) - 1 - number for number, floor in enumerate(floors) for room in floor}


def name_room(module: str) -> str:
    """The room of `studio.search.page` is `search`; nothing for a package itself."""
    parts = module.split(".")
    return "tabletop.train" if parts[1:3] == ["tabletop", "train"] else ".".join(parts[1:2])


@cache
def find_files(package: str) -> dict[str, list[Path]]:
    """room → its files, in all of a package."""
    found: dict[str, list[Path]] = {}
    for path in SOURCES:
        module = name_module(path)
        if module.startswith(package + "."):
            found.setdefault(name_room(module), []).append(path)
    return found


@cache
def find_arrows(package: str) -> dict[tuple[str, str], list[str]]:
    """(room, room that it imports) → the files that do."""
    arrows: dict[tuple[str, str], list[str]] = {}
    files = find_files(package)
    for room, path in ((room, path) for room, paths in files.items() for path in paths):
        modules = [name for name in list_imports(path) if name.startswith(package + ".")]
        for other in sorted({name_room(name) for name in modules} & set(files) - {room}):
            arrows.setdefault((room, other), []).append(name_file(path))
    return arrows


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def build_table(package: str) -> list[tuple[str, str, str]]:
    """The rows of docs/architecture.md: room, what it is for, which rooms it imports."""
    floors, arrows = FLOORS[package], find_arrows(package)
    order = list(list_rooms(package))
    rows = []
    for floor in floors:
        for room, purpose in floor.items():
            below = [other for other in order if (room, other) in arrows]
            rows.append((f"`{room}`", purpose, ", ".join(f"`{other}`" for other in below) or "–"))
    return rows


# the picture

WIDTH, BOX, STEP, MARGIN = 960, 44, 84, 24


def draw() -> str:
    """The studio's rooms as SVG: floors from top to bottom, an arrow for each import between rooms."""
    arrows = find_arrows("studio")
    places: dict[str, tuple[float, float]] = {}
    for number, floor in enumerate(STUDIO_FLOORS):
        for place, room in enumerate(floor):
            middle = WIDTH * (place + 1) / (len(floor) + 1)
            aside = (number % 3 - 1) * 220 if len(floor) == 1 else 0  # arrows must not lie on each other
            places[room] = (middle + aside, MARGIN + STEP * number)
    height = 2 * MARGIN + STEP * (len(STUDIO_FLOORS) - 1) + BOX
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif'>",
        "<title>Rooms of studio/ and which of them import which</title>",
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
    ]
    for number, (room, other) in enumerate(sorted(arrows)):
        if room in places and other in places:
            parts.append(_draw_arrow(places[room], places[other], number))
    for room, (x, y) in places.items():
        half = 78
        parts.append(
            f"<rect x='{x - half:g}' y='{y:g}' width='{2 * half}' height='{BOX}' rx='5' fill='#eaf4fb' "
            "stroke='#0072B2'/>"
            f"<text x='{x:g}' y='{y + 27:g}' text-anchor='middle' font-size='15' font-weight='600' "
            f"fill='#1c1c1c'>{escape(room)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def _draw_arrow(start: tuple[float, float], end: tuple[float, float], number: int) -> str:
    """A curve from the bottom of a room to the top of another one, bent aside so that curves differ."""
    (x1, y1), (x2, y2) = start, end
    spread = (number % 7 - 3) * 14
    bend = spread * 3 + (90 if abs(x1 - x2) < 1 and y2 - y1 > STEP else 0) * (1 if number % 2 else -1)
    middle = f"{(x1 + x2) / 2 + bend:g} {(y1 + BOX + y2) / 2:g}"
    return (
        f"<path d='M{x1 + spread:g} {y1 + BOX:g} Q{middle} {x2 + spread:g} {y2:g}' fill='none' "
        f"stroke='#7F7F7F' stroke-opacity='.45' stroke-width='1.2'/>"
        f"<circle cx='{x2 + spread:g}' cy='{y2:g}' r='2.5' fill='#7F7F7F'/>"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
