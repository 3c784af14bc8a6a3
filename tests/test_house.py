"""The rules of the house: who may know whom, how long a file may be, and what importing may do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import calibri

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("calibri/**/*.py"), *ROOT.glob("studio/**/*.py"), ROOT / "app.py"])
ALL = sorted([*SOURCES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
HEAVY = ("torch", "diffusers", "transformers", "gradio", "duckdb", "plotly", "pandas", "scipy", "cma")

# The rooms of the studio from top to bottom. A module may import those of its own room and of rooms below.
STUDIO_ROOMS = (
    "shell",
    "search",
    "library",
    "diagnose",
    "compare",
    "scales",
    "quick_vote",
    "studies",
    "rendering",
    "ui",
    "core",
    "machine",
    "access",
    "calibrations",
    "visitors",
    "settings",
)
STUDIO_FLOORS = {room: floor for floor, room in enumerate(reversed(STUDIO_ROOMS))}
CALIBRI_FLOORS = {
    "errors": 0,
    "words": 0,
    "interval": 1,
    "preference": 1,
    "backbones": 1,
    "calibration": 2,
    "sampling": 3,
    "rewards": 3,
    "analysis": 6,
    "api": 6,
    "search": 5,
    "commands": 7,
    "cli": 8,
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Modules that a file imports at run time; what only type checkers see does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for part in node.body for inner in ast.walk(part))
    nodes = tree.body if top_only else list(ast.walk(tree))
    for node in nodes:
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", [p for p in SOURCES if module_of(p).startswith("calibri")], ids=named)
def test_the_library_knows_no_application(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"gradio", "duckdb", "plotly", "pandas", "studio", "app"}


@pytest.mark.parametrize("package, floors", [("studio", STUDIO_FLOORS), ("calibri", CALIBRI_FLOORS)])
def test_arrows_run_one_way(package: str, floors: dict[str, int]) -> None:
    wrong = []
    for path in SOURCES:
        parts = module_of(path).split(".")
        if parts[0] != package or len(parts) < 2 or parts[1] not in floors:
            continue
        for name in set(imports(path)):
            other = name.split(".")
            if other[0] != package or len(other) < 2 or other[1] == parts[1] or other[1] not in floors:
                continue
            if floors[other[1]] >= floors[parts[1]]:
                wrong.append((named(path), other[1]))
    assert not wrong


def test_every_module_of_the_studio_has_its_floor() -> None:
    rooms = {module_of(p).split(".")[1] for p in SOURCES if module_of(p).startswith("studio.")}
    assert rooms <= set(STUDIO_FLOORS), "give the new room its place in STUDIO_ROOMS"


def test_the_start_knows_the_studio_only() -> None:
    roots = {name.split(".")[0] for name in imports(ROOT / "app.py")}
    assert not roots & {"calibri", *HEAVY}


@pytest.mark.parametrize("path", ALL, ids=named)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_pickle_no_global_seed_no_swallowed_error(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    forked = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and "fork_rng" in ast.unparse(node.items[0].context_expr)
        for inner in ast.walk(node)  # gives the state back afterwards
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node not in forked:
            called = ast.unparse(node.func)
            assert called not in {
                "torch.manual_seed",
                "torch.random.manual_seed",
                "torch.cuda.manual_seed_all",
                "np.random.seed",
                "numpy.random.seed",
                "random.seed",
                "transformers.set_seed",
                "set_seed",
            }, f"line {node.lineno}: {called} changes the state of the whole process"
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in {"Exception", "BaseException", "everything"}, (
                f"line {node.lineno} swallows {caught}"
            )


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if module_of(p).startswith(("studio", "app"))], ids=named
)
def test_one_module_reads_the_environment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    reads = re.findall(r"os\.environ|os\.getenv|from os import", text)
    assert not reads or module_of(path) == "studio.settings"


def fresh(code: str, cwd: Path) -> str:
    """The output of this code in a new interpreter, started in an empty folder."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(cwd), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_library_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, calibri, calibri.errors, calibri.backbones.layouts, calibri.calibration.artifact\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert fresh(code, tmp_path).strip() == "[]"


def test_importing_the_public_names_loads_no_torch(tmp_path: Path) -> None:
    light = [name for name in calibri.__all__ if name not in ("Backbone", "load_backbone", "Renderer")]
    code = (
        "import sys, calibri\n"
        "before = [m for m in sys.modules if m.startswith(('calibri.', 'numpy', 'pydantic'))]\n"
        "assert set(calibri.__all__) <= set(dir(calibri))\n"
        f"from calibri import {', '.join(light)}\n"
        "heavy = ('torch', 'diffusers', 'transformers', 'scipy', 'cma')\n"
        "print(before, [m for m in heavy if m in sys.modules])"
    )
    assert fresh(code, tmp_path).strip() == "[] []"


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
    modules = [module_of(p) for p in SOURCES if module_of(p).startswith("studio")]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "from gradio.context import Context\n"
        "heavy = ('torch', 'diffusers', 'transformers', 'plotly')\n"
        "print([m for m in heavy if m in sys.modules], Context.root_block)"
    )
    assert fresh(code, tmp_path).strip() == "[] None"
    assert list(tmp_path.rglob("*")) == []


def test_no_path_of_a_single_machine_is_in_the_tree() -> None:
    texts = [*ALL, *ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "Makefile"]
    machine = re.compile(r"/(?:work|home|root|Users)/\w")
    assert [named(p) for p in texts if machine.search(p.read_text(encoding="utf-8"))] == []
