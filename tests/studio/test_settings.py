"""Settings: where each value comes from, and the header of README, which sets up a Space."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from calibri.rewards.base import RewardLoading
from studio.settings import OPTIONS, Settings, parser, read_settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_starts_with_the_header_of_a_space() -> None:
    head = README.split("---")[1]
    assert README.startswith("---\n")
    for line in ("sdk: gradio", 'python_version: "3.12"', "app_file: app.py"):
        assert line in head
    pinned = (Path(__file__).resolve().parents[2] / "constraints.txt").read_text(encoding="utf-8")
    version = re.search(r"sdk_version: (\S+)", head)
    assert version and f"gradio=={version[1]}\n" in pinned


def test_every_setting_has_an_option_and_every_option_a_setting() -> None:
    assert [o.field for o in OPTIONS] == list(Settings.model_fields)


def test_defaults() -> None:
    assert read_settings([], {}) == Settings()


def test_the_environment_is_read() -> None:
    assert read_settings([], {"CALIBRI_PORT": "1234", "CALIBRI_DEMO": "1"}).port == 1234
    assert read_settings([], {"CALIBRI_DEMO": "1"}).demo is True


def test_a_flag_wins_over_the_environment() -> None:
    assert read_settings(["--port", "80"], {"CALIBRI_PORT": "1234"}).port == 80


def test_make_names_a_port_only_when_told_one() -> None:
    clean = {"PATH": os.environ["PATH"], "CALIBRI_PORT": "1234"}
    for told, flags in (([], []), (["PORT=80"], ["--port 80"])):
        command = ["make", "-n", "run", *told]
        said = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
        assert re.findall(r"--port \S+", said.stdout) == flags


def test_an_empty_variable_is_no_setting() -> None:
    assert read_settings([], {"CALIBRI_PORT": ""}).port == Settings().port


def test_a_space_listens_to_the_outside() -> None:
    assert read_settings([], {"SPACE_ID": "someone/calibri"}).host == "0.0.0.0"


@pytest.mark.parametrize(
    "arguments, word",
    [(["--port", "99999"], "port"), (["--dtype", "int8"], "dtype"), (["--auth", "nobody"], "auth")],
)
def test_what_does_not_fit_ends_with_a_sentence(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(arguments, {})
    assert ended.value.code == 2
    assert word in capsys.readouterr().err.splitlines()[-1]


def test_a_wrong_password_setting_is_not_repeated_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_settings([], {"CALIBRI_AUTH": "hunter2"})
    assert "hunter2" not in capsys.readouterr().err


def test_accounts_are_pairs_and_a_password_may_hold_a_colon() -> None:
    assert Settings(auth="ann:a:b, ben:c").accounts == [("ann", "a:b"), ("ben", "c")]


def test_unknown_settings_are_errors() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"colour": "red"})


def test_help_names_every_flag_and_variable() -> None:
    text = parser().format_help()
    for option in OPTIONS:
        assert option.flag in text and option.variable in text


def test_weights_of_rewards_are_named_by_flags_or_in_one_variable(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    flags = ["--reward-source", f"pickscore={folder}", "--reward-source=hpsv3=owner/name@main"]
    loading = read_settings(
        [*flags, "--reward-device", "cuda:1", "--reward-dtype", "8bit"], {}
    ).reward_loading
    assert loading.sources == {"pickscore": str(folder), "hpsv3": "owner/name@main"}
    assert (loading.device, loading.dtype) == ("cuda:1", "8bit")
    variable = {"CALIBRI_REWARD_SOURCE": f"pickscore={folder}, hpsv3=owner/name"}
    assert read_settings([], variable).reward_loading.sources["hpsv3"] == "owner/name"
    assert read_settings([], {}).reward_loading == RewardLoading()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--reward-source", "pickscore"], "reward-source: expected NAME=SOURCE, got 'pickscore'"),
        (["--reward-dtype", "half"], "dtype: expected auto, float32, .*, got 'half'"),
        (["--reward-device", "gpu 1"], "device: expected auto, cpu, cuda, cuda:1 or mps, got 'gpu 1'"),
    ],
)
def test_rewards_that_cannot_be_loaded_so_end_with_a_sentence(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_settings(flags, {})
    assert re.search(words, capsys.readouterr().err)
