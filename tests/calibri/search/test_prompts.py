"""Where searches, sweeps and comparisons take their prompts from."""

import json
import shutil
from pathlib import Path

import pytest

from calibri.cli import main
from calibri.prompts import SPLITS, prompt_set
from calibri.search.journal import JournalTail, read_journal
from calibri.search.prompts import held_out_prompts, search_prompts, sweep_prompts
from calibri.search.records import ResultRecord

CASES = Path(__file__).parents[2] / "data" / "prompts"
SMALL = [
    "--steps",
    "1",
    "--reward",
    "tabletop-quality",
    "--generations",
    "1",
    "--popsize",
    "4",
    "--bucket",
    "2",
]
SMALL += ["--pool", "8", "--validation-pairs", "4", "--held-out-pairs", "4"]


@pytest.mark.parametrize("backbone", ["FLUX.1-dev", "owner/model", "some/folder", "tabletop"])
def test_every_backbone_has_prompts_to_search_validate_and_judge_on(backbone):
    own = "tabletop" if backbone == "tabletop" else "general"
    found = search_prompts(backbone)
    assert list(found.values()) == [prompt_set(own, split) for split in SPLITS]
    assert held_out_prompts(None, backbone, 9) == list(prompt_set(own, "held-out")[:9])
    assert sweep_prompts(None, backbone, 9) == list(prompt_set(own, "search")[:9])


def test_a_search_on_another_backbone_starts_with_the_general_set(tiny_folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["search", "--backbone", str(tiny_folder), *SMALL, "--out", str(run)]) == 0
    config = JournalTail(run).config()
    assert config.prompts == prompt_set("general", "search")
    assert config.validation_prompts == prompt_set("general", "validation")
    assert config.held_out_prompts == prompt_set("general", "held-out")
    assert isinstance(read_journal(run)[-1], ResultRecord)
    err = capsys.readouterr().err
    assert err.count("tiny reads 16 tokens") == 1 and "truncated" not in err  # the tiny encoders read letters


@pytest.mark.parametrize("command", ["search", "diagnose", "evaluate"])
@pytest.mark.parametrize(
    "name", ["prompts_geneval.jsonl", "prompts_parti.tsv", "prompts_prompt_category.csv"]
)
def test_every_command_reads_a_file_by_its_header(command, name, tiny_folder, tmp_path, capsys):
    """The same file is said to hold the same prompts, before any picture is made of them."""
    given = [
        command,
        "--backbone",
        str(tiny_folder),
        "--prompts",
        str(CASES / name),
        "--reward",
        "tabletop-quality",
    ]
    more = {
        "search": [*SMALL, "--out", str(tmp_path / "run")],
        "diagnose": ["--pairs", "2", "--values", "0", "--steps", "1", "--out", str(tmp_path / "sweep.jsonl")],
        "evaluate": ["--pairs", "2", "--steps", "1", "--json"],
    }[command]
    assert main([*given, *more]) == 0
    _, err = capsys.readouterr()
    assert f"{name}: 32 prompts in 1 category" in err and "First: “a red cube" in err
    if command == "search":
        config = JournalTail(tmp_path / "run").config()
        every = [*config.prompts, *config.validation_prompts, *config.held_out_prompts]
        assert len(every) == 32 and all(prompt.startswith("a ") and "\t" not in prompt for prompt in every)
    if command == "diagnose":
        [first, *_] = (tmp_path / "sweep.jsonl").read_text().splitlines()
        assert json.loads(first)


def test_a_file_that_is_refused_costs_no_run(tiny_folder, tmp_path, capsys):
    shutil.copy(CASES / "prompts_list.json", tmp_path / "list.yaml")
    given = ["--prompts", str(tmp_path / "list.yaml"), "--out", str(tmp_path / "run")]
    assert main(["search", "--backbone", str(tiny_folder), *SMALL, *given]) == 1
    assert "expected a text file with one prompt a line, CSV, TSV, JSON" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
