"""The files that people brought: each gives the prompts that it was made for."""

import json
import shutil
from pathlib import Path

import pytest

from calibri.cli import main
from calibri.prompts import read_prompts

CASES = Path(__file__).parents[2] / "data" / "prompts"
COLOURS = ["red", "green", "blue", "yellow", "white", "black", "purple", "orange"]
SOLIDS = [f"a {colour} {solid}" for colour in COLOURS for solid in ("cube", "sphere", "cone", "cylinder")]


def case(name):
    return read_prompts(CASES / name)


@pytest.mark.parametrize(
    "name, category",
    [
        ("prompts_list.json", None),
        ("prompts_geneval.jsonl", "single_object"),
        ("prompts_parti.tsv", "Artifacts"),
        ("prompts_drawbench.csv", "Colors"),
        ("prompts_bom_crlf.txt", None),
        ("prompts_comment.txt", None),
        ("prompts_kohya_flags.txt", None),
    ],
)
def test_the_solids_are_read_from_every_format(name, category):
    file = case(name)
    assert list(file.prompts) == SOLIDS
    assert file.counts == ({category: 32} if category else {})


def test_columns_of_no_use_are_left_out_and_named():
    file = case("prompts_extra_column.csv")
    assert list(file.prompts) == [f"{solid}, shiny, 4k" for solid in SOLIDS]
    assert file.counts == {"colour": 32}
    assert any("“seed”" in note for note in file.notes)


def test_quotes_inside_quotes_are_part_of_the_prompt():
    file = case("prompts_prompt_category.csv")
    assert list(file.prompts) == [f'{solid}, shiny, "best" quality' for solid in SOLIDS]
    assert file.counts == {"colour": 32}


def test_other_line_separators_split_nothing():
    file = case("prompts_line_separators.txt")
    assert list(file.prompts) == [f"{solid} shiny new next" for solid in SOLIDS]
    assert any("read as spaces" in note for note in file.notes)


def test_latin_1_is_read_and_said():
    file = case("prompts_latin1.txt")
    assert [*file.prompts] == [*SOLIDS, "a café table"]
    assert any("not UTF-8" in note and "line 33" in note for note in file.notes)


def test_comments_and_flags_are_said():
    assert any("#" in note and "2" in note for note in case("prompts_comment.txt").notes)
    assert any("--n" in note and "no settings here" in note for note in case("prompts_kohya_flags.txt").notes)


def test_prompts_that_differ_behind_the_encoders_end_are_two():
    assert len(case("prompts_longer_than_the_encoder.txt").prompts) == 2


def test_the_command_shows_what_a_file_holds(capsys):
    assert main(["prompts", str(CASES / "prompts_parti.tsv")]) == 0
    out = capsys.readouterr().out
    for words in ("TSV", "32 prompts", "Artifacts: 32", "1. a red cube", "3. a red cone", "“Challenge”"):
        assert words in out
    assert "4. " not in out


def test_the_command_gives_a_machine_the_same(capsys):
    assert main(["prompts", str(CASES / "prompts_geneval.jsonl"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["count"] == 32 and told["categories"] == {"single_object": 32}
    assert told["first"] == SOLIDS[:3] and told["format"].startswith("JSON lines")


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    shutil.copy(CASES / "prompts_list.json", tmp_path / "broken.json")
    with (tmp_path / "broken.json").open("a") as file:
        file.write("]")
    assert main(["prompts", str(tmp_path / "broken.json")]) == 1
    assert capsys.readouterr().err.startswith("calibri: broken.json, line 34: expected JSON")
