"""`calibri search`, `diagnose` and `evaluate` from the command line, on a tiny random pipeline."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from calibri.backbones.placing import can_compile
from calibri.calibration.artifact import Calibration
from calibri.cli import main
from calibri.search.config import Budget
from calibri.search.journal import JournalTail, read_journal
from calibri.search.records import GenerationRecord, ResultRecord
from calibri.tabletop.prompts import prompt_set


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("\n".join(prompt_set("search", 20)))
    return path


@pytest.fixture
def arguments(tmp_path, tiny_folder, prompts):
    """A small search; options that are given replace its own."""

    def make(*more, **options):
        given = {
            "--backbone": tiny_folder,
            "--reward": "tabletop-keep",
            "--prompts": prompts,
            "--out": tmp_path / "run",
            "--steps": 1,
            "--popsize": 4,
            "--bucket": 2,
            "--pool": 8,
            "--validation-pairs": 4,
            "--held-out-pairs": 4,
            "--generations": 2,
        }
        given |= {"--" + name.replace("_", "-"): value for name, value in options.items()}
        texts = [str(part) for item in given.items() if item[1] is not None for part in item]
        return ["search", *texts, *more]

    return make


def test_a_search_prints_its_story_and_leaves_a_run(arguments, tmp_path, capsys):
    assert main(arguments()) == 0
    out = capsys.readouterr().out
    for words in ("generation 1", "sigma", "Stopped: the budget of 2 generations", "held-out pairs"):
        assert words in out
    assert Calibration.load(tmp_path / "run" / "tail.json").found["how"] == "search"
    assert JournalTail(tmp_path / "run").config().seed == 0


@pytest.mark.skipif(not can_compile(), reason="compiling for a CPU needs g++ and Python's headers")
def test_compiled_blocks_give_the_same_search(arguments, tmp_path):
    assert main(arguments()) == 0
    assert main(arguments("--compile", out=tmp_path / "compiled")) == 0
    plain, compiled = (
        [r for r in read_journal(tmp_path / run) if isinstance(r, GenerationRecord)]
        for run in ("run", "compiled")
    )
    assert JournalTail(tmp_path / "compiled").config().compile and len(plain) == 2
    np.testing.assert_allclose(compiled[0].objective, plain[0].objective, rtol=1e-3, atol=1e-4)


def test_json_gives_every_record_to_a_machine(arguments, capsys):
    assert main(arguments("--json")) == 0
    kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["session", "base", "generation", "generation", "result"]


def test_a_run_is_resumed_with_a_larger_budget(arguments, tmp_path, capsys):
    main(arguments())
    assert main(["search", "--resume", str(tmp_path / "run"), "--generations", "3"]) == 0
    done = [r.generation for r in read_journal(tmp_path / "run") if isinstance(r, GenerationRecord)]
    assert done == [0, 1, 2]
    assert "Resumed after generation 2" in capsys.readouterr().out


def test_ctrl_c_finishes_the_batch_judges_and_saves(arguments, tmp_path, capsys):
    def interrupt():
        tail, seen = JournalTail(tmp_path / "run"), 0
        while seen < 2:
            seen += sum(isinstance(record, GenerationRecord) for record in tail.poll())
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main(arguments(generations=100_000)) == 0
    thread.join()
    result = read_journal(tmp_path / "run")[-1]
    assert isinstance(result, ResultRecord) and result.reason == "stopped by the user"
    assert result.verdict != "not judged" and (tmp_path / "run" / "tail.json").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ensemble_starts_from_guidance(arguments, tmp_path):
    assert main(arguments("--start", "guidance:1.5", generations=1)) == 0
    config = JournalTail(tmp_path / "run").config()
    assert config.conditions == ("positive", "negative") and config.weights == (1.5, -0.5)
    assert config.search_weights and config.start_from == "guidance 1.5"


def test_a_search_starts_from_skip_layer_guidance(arguments, tmp_path):
    assert main(arguments("--start", "skip-layer:double.0:2.8@0-1", generations=1)) == 0
    config = JournalTail(tmp_path / "run").config()
    assert config.weights == (1.0, -2.8) and config.start_from == "base + skip-layer"
    assert config.roles[1].without == ("double.0.attn", "double.0.mlp")
    found = Calibration.load(tmp_path / "run" / "tail.json")
    kept, skipping = found.members
    pairs = zip(found.names, kept.scales, skipping.scales, strict=True)
    assert all(own == (0 if name.startswith("double.0") else first) for name, first, own in pairs)


def test_a_search_starts_from_a_calibration_of_another_granularity(arguments, tmp_path):
    main(arguments(granularity="block"))
    found = tmp_path / "run" / "tail.json"
    more = ("--start", str(found), "--ensemble", "positive,negative")
    assert main(arguments(*more, out=tmp_path / "next", generations=1)) == 0
    config = JournalTail(tmp_path / "next").config()
    block = Calibration.load(found).members[0].scales
    assert config.start[0] == config.start[1] == (block[0], block[0], block[1])
    assert config.weights == (1.0, 0.0)


def test_a_sweep_is_measured_resumed_and_searched_from(arguments, tmp_path, tiny_folder, prompts, capsys):
    sweep = tmp_path / "sweep.jsonl"
    command = ["diagnose", "--backbone", str(tiny_folder), "--prompts", str(prompts), "--out", str(sweep)]
    command += ["--reward", "tabletop-keep", "--steps", "1", "--pairs", "4", "--values", "0,1.5"]
    assert main(command) == 0
    lines = sweep.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * 2
    sweep.write_text("".join(lines[:3]) + lines[3][:20])
    assert main(command) == 0
    assert sweep.read_text() == "".join(lines)
    assert main(arguments("--start", str(sweep), generations=1)) == 0
    assert "sweep" in JournalTail(tmp_path / "run").config().start_from


def test_arms_are_compared_in_a_table(arguments, tmp_path, tiny_folder, prompts, capsys):
    main(arguments())
    capsys.readouterr()
    files = [str(tmp_path / "run" / "tail.json"), "--backbone", str(tiny_folder), "--prompts", str(prompts)]
    options = ["--json", "--reward", "tabletop-keep", "--pairs", "4", "--steps", "1"]
    command = ["evaluate", *files, *options, "--base-steps", "1,2", "--guidance", "2"]
    assert main(command) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["arm"], row["nfe"]) for row in rows] == [
        ("base at 1", 1),
        ("base at 2", 2),
        ("base with guidance 2 at 1", 2),
        ("base with guidance 2 at 2", 4),
        ("tail at 1", 1),
    ]


@pytest.mark.parametrize(
    ("options", "more", "words"),
    [
        ({"out": None}, (), "--out RUN"),
        ({"reward": None}, (), "--reward NAMES"),
        ({"reward": "beauty"}, (), "got 'beauty'"),
        ({"images": 0}, (), "--images: expected a whole number from 1"),
        ({"prompts": "gone.csv"}, (), "expected a prompt file, got gone.csv (No such file"),
        ({"seed": -1}, (), "seed"),
        ({"bounds": "1"}, (), "LOW,HIGH"),
        ({"size": "64"}, (), "WIDTHxHEIGHT"),
        ({"start": "guidance:much"}, (), "guidance:NUMBER"),
        ({"ensemble": "positive"}, (), "2 or 3 members"),
        ({"race": 8}, (), "smaller than bucket"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(arguments, options, more, words, capsys):
    assert main(arguments(*more, **options)) == 1
    error = capsys.readouterr().err.strip()
    assert words in error and "\n" not in error.removeprefix("calibri: ").split("calibri:")[-1]


def test_a_resumed_run_keeps_its_settings(tmp_path, capsys):
    assert main(["search", "--resume", str(tmp_path), "--seed", "0"]) == 1
    assert "leave out --seed" in capsys.readouterr().err


def test_resuming_what_is_no_run_is_a_mistake(tmp_path, capsys):
    assert main(["search", "--resume", str(tmp_path)]) == 1
    assert "no run folder" in capsys.readouterr().err


def test_the_live_panel_shows_a_search(make_config, make_generation, tmp_path):
    from rich.console import Console

    from calibri.commands.live import PanelView
    from calibri.search.records import SessionRecord

    view = PanelView(make_config(), tmp_path)
    limits = Budget(images=100)
    view.show(SessionRecord(time="", pid=1, host="h", generation=0, images_limit=limits.images))
    view.show(make_generation(0, seconds=1.0))
    view.show(make_generation(1, seconds=2.0))
    view.progress(3, 8)
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(view._panel())
    text = console.export_text()
    for words in ("generation", "20 of 100, 10.0 a second", "8.0 s left", "sigma", "3 of 8 pictures"):
        assert words in text
