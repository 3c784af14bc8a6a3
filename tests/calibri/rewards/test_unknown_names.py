"""A reward that there is not is refused at once, by every command, before any model is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calibri.cli import main

NAMES = ("beauty", "tabletop-aling", "tabletop-align,beauty", "./none.py:Mine")
COMMANDS: dict[str, tuple[str, ...]] = {
    "search": ("search", "--backbone", "./spoiled", "--out", "run", "--reward"),
    "judges": ("search", "--backbone", "./spoiled", "--out", "run", "--reward", "tabletop-align", "--judge"),
    "evaluate": ("evaluate", "--backbone", "./spoiled", "--reward"),
    "diagnose": ("diagnose", "--backbone", "./spoiled", "--out", "s.jsonl", "--reward"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_reward_is_told_before_the_backbone_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, flux_folder: Path, command: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(flux_folder, "spoiled")
    for weights in Path("spoiled").rglob("*.safetensors"):
        weights.unlink()  # reading it would fail in other words
    code = main([*COMMANDS[command], name])
    said = capsys.readouterr().err
    wrong = name.rpartition(",")[2].partition(":")[0].removeprefix("./")
    assert code == 1 and wrong in said and said.count("\n") == 1, said
    assert [path.name for path in tmp_path.iterdir()] == ["spoiled"]
