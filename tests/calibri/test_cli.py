"""The command line: what it writes, and how it fails."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from calibri.calibration.artifact import Calibration, Member
from calibri.cli import main
from calibri.sampling.png import read_settings, save_png
from tests import golden_cases as golden

NAMES = tuple(f"double.{b}" for b in range(2)) + tuple(f"single.{b}" for b in range(3))


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / "f.json"
    member = Member(scales=(1.3, 0.7, 1.2, 0.9, 1.1))
    Calibration(title="mine", backbone="tiny", granularity="block", names=NAMES, members=(member,)).save(path)
    return path


def failure(capsys, *argv):
    """The one line on stderr of a command that fails."""
    assert main([str(a) for a in argv]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("calibri: ") and captured.err.count("\n") == 1
    return captured.err


def test_render_writes_a_png_with_its_settings(flux_folder, calibration, tmp_path, capsys):
    out = tmp_path / "new" / "out.png"
    argv = ["render", "a red cube", "--backbone", str(flux_folder), "--seed", "3"]
    argv += ["--steps", "2", "-o", str(out)]
    assert main([*argv, "--calibration", str(calibration)]) == 0
    assert "2 NFE" in capsys.readouterr().out
    settings = read_settings(out)
    assert (settings["prompt"], settings["seed"], settings["steps"]) == ("a red cube", 3, 2)
    assert Calibration(**settings["calibration"]) == Calibration.load(calibration)
    assert Image.open(out).size == (settings["width"], settings["height"]) == (32, 32)
    calibrated = np.asarray(Image.open(out))
    assert main(argv) == 0
    assert read_settings(out)["calibration"] is None
    assert not np.array_equal(calibrated, np.asarray(Image.open(out)))


def test_render_numbers_several_pictures(flux_folder, tmp_path):
    out = tmp_path / "o.png"
    argv = ["render", "a cube", "--backbone", flux_folder, "--steps", 1, "--seed", 7, "--count", 2, "-o", out]
    assert main([str(a) for a in argv]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o-7.png", "o-8.png"]
    assert read_settings(tmp_path / "o-8.png")["seed"] == 8


def test_render_fails_in_one_line(flux_folder, calibration, tmp_path, capsys):
    base = ["render", "a cube", "--backbone", flux_folder, "-o", tmp_path / "o.png"]
    assert "No such file" in failure(capsys, *base, "--calibration", tmp_path / "none.json")
    assert "steps" in failure(capsys, *base, "--steps", 0)
    assert "WIDTHxHEIGHT" in failure(capsys, *base, "--size", "big")
    assert "multiple of 16" in failure(capsys, *base, "--size", "33x32")
    assert ".png" in failure(capsys, "render", "a cube", "-o", "o.jpg")
    assert "no backbone 'none'" in failure(capsys, "render", "a cube", "--backbone", "none")
    assert list(tmp_path.glob("*.png")) == []


def test_info_lists_the_catalog(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert any(line.split()[:4] == ["FLUX.1-dev", "57", "76", "114"] for line in out.splitlines())


def test_info_of_a_folder_lists_names_and_sites(flux_folder, capsys):
    assert main(["info", str(flux_folder), "--granularity", "block", "--sites", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["scales"] == {"block": 5, "layer": 7, "gate": 11}
    assert tuple(row["names"]) == NAMES
    assert row["sites"][0]["module"] == "transformer_blocks.0.norm1"


def test_info_of_an_unknown_backbone_fails(capsys):
    assert "expected tabletop" in failure(capsys, "info", "nothing")


def test_check_says_that_a_file_fits(flux_folder, calibration, capsys):
    assert main(["check", str(calibration), "--backbone", str(flux_folder)]) == 0
    assert "Fits" in capsys.readouterr().out


def test_check_fails_where_a_file_does_not_fit(calibration, tmp_path, capsys):
    assert "is missing" in failure(capsys, "check", calibration, "--backbone", "FLUX.1-dev")
    (tmp_path / "broken.json").write_text("{")
    assert "not valid JSON" in failure(capsys, "check", tmp_path / "broken.json")


def test_check_reads_a_checkpoint_of_the_papers_code(flux_folder, tmp_path, capsys):
    source = golden.checkpoint("flux", "layer_k2")
    assert "name the backbone that it is for (--backbone)" in failure(capsys, "check", source)
    saved = tmp_path / "c.json"
    assert main(["check", str(source), "--backbone", str(flux_folder), "--save", str(saved)]) == 0
    assert [m.weight for m in Calibration.load(saved).members] == [1.7, -0.7]


def test_every_command_explains_itself(capsys):
    for command in ("render", "info", "check", "search", "diagnose", "evaluate"):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
    with pytest.raises(SystemExit) as end:
        main(["fly"])
    assert end.value.code == 2


def test_settings_survive_any_prompt(tmp_path):
    settings = {"prompt": 'ein roter Würfel, 赤い立方体 \n"quoted"', "seed": 1}
    save_png(Image.new("RGB", (4, 4)), tmp_path / "a.png", settings)
    assert read_settings(tmp_path / "a.png") == settings


def test_a_png_without_settings_says_so(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(Exception, match="carries no settings"):
        read_settings(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(Exception, match="no picture"):
        read_settings(tmp_path / "b.png")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_of_the_terminal_will_do(encoding, calibration):
    """`info` writes an ellipsis and a multiplication sign, a title may hold any script."""
    for command in (["info", "tabletop"], ["check", str(calibration)], ["rewards", "list"]):
        made = subprocess.run(
            [sys.executable, "-m", "calibri.cli", *command],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=120,
        )
        assert made.returncode == 0, made.stderr
        assert b"Error" not in made.stdout + made.stderr
