"""The rules of the house: who may know whom, how long a file may be, and what importing may do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import calibri
from tests.fresh import run_fresh
from tests.house import (
    FLOORS,
    PICTURE,
    ROOT,
    SOURCES,
    count_lines,
    draw,
    find_arrows,
    find_files,
    list_imports,
    list_rooms,
    name_file,
    name_module,
    parse,
)

BESIDE = sorted(ROOT.glob("integrations/**/*.py"))  # parts for other programs, which stand alone
ALL = sorted([*SOURCES, *BESIDE, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
HEAVY = ("torch", "diffusers", "transformers", "gradio", "duckdb", "plotly", "pandas", "scipy", "cma")
HEAVY_NAMES = ("Backbone", "load_backbone", "Renderer", "CalibriGuidance")  # of the library
LONGEST_FILE, LONGEST_FUNCTION = 400, 80  # lines
SEEDS = {
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.cuda.manual_seed_all",
    "np.random.seed",
    "numpy.random.seed",
    "random.seed",
    "transformers.set_seed",
    "set_seed",
}


def test_the_library_knows_no_application() -> None:
    banned = {"gradio", "duckdb", "plotly", "pandas", "studio", "app"}
    files = [path for path in SOURCES if name_module(path).startswith("calibri")]
    found = {name_file(path): {name.split(".")[0] for name in list_imports(path)} & banned for path in files}
    assert {name: roots for name, roots in found.items() if roots} == {}


def test_integrations_stand_alone() -> None:
    banned = {"calibri", "studio", "app", "gradio", "diffusers", "transformers"}
    found = {name_file(path): {name.split(".")[0] for name in list_imports(path)} & banned for path in BESIDE}
    assert found and {name: roots for name, roots in found.items() if roots} == {}


def test_the_start_knows_the_studio_only() -> None:
    roots = {name.split(".")[0] for name in list_imports(ROOT / "app.py")}
    assert not roots & {"calibri", *HEAVY}


@pytest.mark.parametrize("package", FLOORS)
def test_arrows_run_one_way(package: str) -> None:
    floors = list_rooms(package)
    assert set(floors) == set(find_files(package)), "give each room its place in tests/house.py"
    up = {
        arrow: files for arrow, files in find_arrows(package).items() if floors[arrow[1]] >= floors[arrow[0]]
    }
    assert up == {}


def test_the_picture_of_the_rooms_is_todays() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), "draw it anew: python -m tests.house"


def test_files_and_functions_stay_short() -> None:
    lengths = {name_file(path): count_lines(path) for path in ALL}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}
    functions = {
        f"{name_file(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in ALL
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > LONGEST_FUNCTION} == {}


def find_faults(path: Path) -> list[str]:
    """What no file of ours may do: pickle, seed the whole process, swallow every error."""
    tree, faults = parse(path), []
    pickles = {name.split(".")[0] for name in list_imports(path)}
    pickles &= {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    faults += [f"{name_file(path)} imports {name}" for name in pickles]
    forked = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and "fork_rng" in ast.unparse(node.items[0].context_expr)
        for inner in ast.walk(node)  # gives the state back afterwards
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node not in forked and ast.unparse(node.func) in SEEDS:
            faults.append(f"{name_file(path)}:{node.lineno} changes the random state of the whole process")
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
            caught = ast.unparse(node.type) if node.type else "everything"
            if caught in {"Exception", "BaseException", "everything"}:
                faults.append(f"{name_file(path)}:{node.lineno} swallows {caught}")
    return faults


def test_no_pickle_no_global_seed_no_swallowed_error() -> None:
    assert [fault for path in [*SOURCES, *BESIDE] for fault in find_faults(path)] == []


def test_one_module_reads_the_environment() -> None:
    reads = re.compile(r"os\.environ|os\.getenv|from os import")
    files = [path for path in SOURCES if name_module(path).startswith(("studio", "app"))]
    readers = [name_module(path) for path in files if reads.search(path.read_text(encoding="utf-8"))]
    assert readers == ["studio.settings"]


def test_importing_the_library_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, calibri, calibri.errors, calibri.backbones.layouts, calibri.calibration.artifact\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert run_fresh(code, tmp_path).strip() == "[]"


def test_importing_the_public_names_loads_no_torch(tmp_path: Path) -> None:
    light = [name for name in calibri.__all__ if name not in HEAVY_NAMES]
    code = (
        "import sys, calibri\n"
        "before = [m for m in sys.modules if m.startswith(('calibri.', 'numpy', 'pydantic'))]\n"
        "assert set(calibri.__all__) <= set(dir(calibri))\n"
        f"from calibri import {', '.join(light)}\n"
        "heavy = ('torch', 'diffusers', 'transformers', 'scipy', 'cma')\n"
        "print(before, [m for m in heavy if m in sys.modules])"
    )
    assert run_fresh(code, tmp_path).strip() == "[] []"


def test_every_public_name_is_there_and_type_checkers_see_the_same() -> None:
    tree = ast.parse((ROOT / "calibri" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == calibri._HOMES
    assert sorted([*seen, "__version__"]) == sorted(calibri.__all__)
    for name in calibri.__all__:
        assert getattr(calibri, name) is not None


def test_importing_the_studio_creates_nothing_and_loads_no_model_library(tmp_path: Path) -> None:
    modules = [name_module(p) for p in SOURCES if name_module(p).startswith("studio")]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "from gradio.context import Context\n"
        "heavy = ('torch', 'diffusers', 'transformers', 'plotly')\n"
        "print([m for m in heavy if m in sys.modules], Context.root_block)"
    )
    assert run_fresh(code, tmp_path).strip() == "[] None"
    assert list(tmp_path.rglob("*")) == []


def test_no_path_of_a_single_machine_is_in_the_tree() -> None:
    texts = [*ALL, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "Makefile"]
    machine = re.compile(r"/(?:work|home|root|Users)/\w")
    assert [name_file(p) for p in texts if machine.search(p.read_text(encoding="utf-8"))] == []
