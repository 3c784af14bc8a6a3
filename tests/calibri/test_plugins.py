"""Broken packages beside this one: they are told of, and everything else works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from calibri.errors import CalibriError
from calibri.plugins import find_plugins
from tests.fresh import ROOT

GOOD = """
from calibri import RewardInfo
class Good:
    info = RewardInfo(name="good", role="reward", version="1", description="g", range_hint=(0.0, 1.0))
    def __init__(self, device): pass
    def score(self, images, prompts): return [0.5] * len(images)
"""
MODULES = {
    "plugin_good": GOOD,
    "plugin_raises": "raise RuntimeError('no /srv/somebody/weights.bin')\n",
    "plugin_exits": "import sys\nsys.exit('go away')\n",
    "plugin_syntax": "def broken(:\n",
    "plugin_number": "value = 3\n",
    "plugin_commands": """
def register(subparsers):
    subparsers.add_parser("half")
    raise KeyError("x")

def taken(subparsers):
    subparsers.add_parser("render")
""",
}
REWARDS = {
    "good": "plugin_good:Good",
    "raises": "plugin_raises:X",
    "exits": "plugin_exits:X",
    "syntax": "plugin_syntax:X",
    "absent": "plugin_absent:X",
    "lacks": "plugin_good:Bad",
    "number": "plugin_number:value",
    "no:name": "plugin_good:Good",
    "pickscore": "plugin_good:Good",
    "deep": "plugin_good:Good.info.name",
}
COMMANDS = {
    "broken": "plugin_raises:register",
    "gone": "plugin_absent:register",
    "half": "plugin_commands:register",
    "render": "plugin_commands:taken",
    "study": "plugin_syntax:register",
}


def install(folder: Path, name: str, points: str) -> None:
    dist = folder / f"{name}-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (dist / "entry_points.txt").write_text(points)


def group(name: str, points: dict[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {place}\n" for key, place in points.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("packages")
    for name, text in MODULES.items():
        (made / f"{name}.py").write_text(text)
    install(made, "bad-package", group("calibri.rewards", REWARDS) + group("calibri.commands", COMMANDS))
    install(made, "other-package", "[something.else]\nname = module:object\n")
    return made


def calibri(folder, *argv):
    return subprocess.run(
        [sys.executable, "-m", "calibri.cli", *argv],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "PYTHONPATH": f"{ROOT}:{folder}",
            "PATH": "",
            "HOME": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


def test_other_commands_work_and_the_list_says_what_is_unusable(folder):
    done = calibri(folder, "rewards", "list", "--json")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert "unusable" not in rows["good"] and "unusable" not in rows["pickscore"]
    expected = {
        "raises": "plugin_raises:X cannot be imported: RuntimeError: no weights.bin",
        "exits": "SystemExit: go away",
        "syntax": "SyntaxError",
        "absent": "ModuleNotFoundError: No module named 'plugin_absent'",
        "lacks": "AttributeError",
        "number": "plugin_number:value is no class and no function",
        "no:name": "expected a name of letters",
        "pickscore of bad-package": "a reward of this project has its name",
        "deep": "is no class and no function",
    }
    told = {name: row["unusable"] for name, row in rows.items() if "unusable" in row}
    assert set(told) == set(expected)
    for name, words in expected.items():
        assert words in told[name], name
    plain = calibri(folder, "rewards", "list")
    assert "good               from a package" in plain.stdout
    assert "raises             unusable: " in plain.stdout and plain.returncode == 0


@pytest.mark.parametrize(
    "name, words", [("raises", "RuntimeError"), ("exits", "go away"), ("syntax", "SyntaxError")]
)
def test_loading_a_broken_reward_is_one_line(folder, name, words):
    done = calibri(folder, "rewards", "test", name)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert (
        done.stderr.startswith(f"calibri: {name}: plugin_{name}:X cannot be imported: ")
        and words in done.stderr
    )


def test_broken_commands_are_listed_with_the_reason(folder):
    done = calibri(folder, "--help")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    helps = " ".join(done.stdout.split())
    assert "broken unusable: plugin_raises:register cannot be imported: RuntimeError: no weights.bin" in helps
    for name in ("broken", "gone", "half", "study"):
        done = calibri(folder, name)
        assert done.returncode == 1 and done.stderr.startswith(f"calibri: {name} is unusable: "), done.stderr
        assert done.stderr.count("\n") == 1
    assert calibri(folder, "render", "--help").returncode == 0


def test_a_list_that_cannot_be_read_is_one_of_them(folder, tmp_path, monkeypatch):
    # Not in a command: pydantic reads the lists of all packages too, and ends with such a one.
    install(
        tmp_path, "torn-package", "[calibri.rewards]\nthis is no line of such a file\n[calibri.commands\n"
    )
    install(tmp_path, "torn-elsewhere", "[something.else]\nthis is no line of such a file\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {plugin.name: plugin for plugin in find_plugins("calibri.rewards")}
    assert found["good"].place == "plugin_good:Good" and found["good"].package == "bad-package"
    assert found["good"].load().__name__ == "Good"
    assert "its entry_points.txt cannot be read" in found["torn-package"].problem
    with pytest.raises(CalibriError, match="torn-package: its entry_points"):
        found["torn-package"].load()
    assert "other-package" not in found and "torn-elsewhere" not in found
