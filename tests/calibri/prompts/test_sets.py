"""The prompts that come with Calibri for real models."""

import re
from collections import Counter

import pytest

from calibri.assets import ASSETS
from calibri.errors import PromptError
from calibri.prompts import SPLITS, name_set, prompt_categories, prompt_set, read_prompts, usual_prompts
from calibri.prompts.sets import category_of
from calibri.tabletop.prompts import prompt_set as draw

ASKED = {"colour", "shape", "texture", "spatial", "counting", "text", "people", "style", "long"}
EVERY = [prompt for split in SPLITS for prompt in prompt_set("general", split)]


def test_there_are_four_hundred_and_more_in_the_categories_of_the_public_sets():
    assert len(EVERY) >= 400
    assert set(prompt_categories()) >= ASKED
    assert min(Counter(map(category_of, EVERY)).values()) >= 24


def test_no_prompt_comes_twice_in_any_split():
    plain = [" ".join(re.findall(r"\w+", prompt.lower())) for prompt in EVERY]
    assert [prompt for prompt, number in Counter(plain).items() if number > 1] == []


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_every_category_evenly(split):
    found = {c: prompt_set("general", split, c) for c in prompt_categories()}
    assert all(len(prompts) >= 3 for prompts in found.values())
    assert sorted(p for prompts in found.values() for p in prompts) == sorted(prompt_set("general", split))
    first = prompt_set("general", split)[: len(found)]
    assert {category_of(prompt) for prompt in first} == set(found)  # however few are taken


def test_what_is_searched_on_is_the_largest_part():
    sizes = {split: len(prompt_set("general", split)) for split in SPLITS}
    assert sizes["search"] > sizes["held-out"] > sizes["validation"] >= 40


def test_only_long_prompts_may_pass_the_end_of_clip():
    """CLIP's byte pairs never make more tokens than a text has letters; two mark start and end."""
    for prompt in EVERY:
        letters = len("".join(prompt.split()).encode())
        assert (letters + 2 > 77) == (category_of(prompt) == "long"), prompt


def test_long_prompts_are_for_encoders_of_256_tokens():
    for split in SPLITS:
        for prompt in prompt_set("general", split, "long"):
            assert 45 <= len(prompt.split()) <= 110


def test_prompts_are_clean_lines():
    for prompt in EVERY:
        assert prompt == " ".join(prompt.split()) and prompt.isprintable()
        assert not re.search(r"[\u201c\u201d]|\.\.|\bphoto of a\b", prompt)
        assert (prompt.count('"') % 2, prompt.count("(") - prompt.count(")")) == (0, 0)
    for prompt in EVERY:
        if category_of(prompt) == "text":
            assert prompt.count('"') >= 2


def test_the_reader_reads_the_file_that_holds_them():
    file = read_prompts(ASSETS / "prompts" / "general.jsonl")
    assert sorted(file.prompts) == sorted(EVERY)
    assert file.counts == Counter(map(category_of, file.prompts))


def test_every_backbone_has_a_set():
    assert name_set("tabletop") == "tabletop" and name_set("FLUX.1-dev") == "general"
    assert usual_prompts("FLUX.1-dev", "held-out", 5) == list(prompt_set("general", "held-out")[:5])
    assert usual_prompts("tabletop", "held-out", 300) == draw("held-out", 300)
    assert usual_prompts("tabletop", "search", 7) == draw("search", 7)


def test_the_embedded_worlds_splits_share_nothing():
    search, validation, held_out = (prompt_set("tabletop", split) for split in SPLITS)
    assert [*search, *validation] == draw("search", 576) and list(held_out) == draw("held-out", 256)
    assert not set(search) & set(validation) and not {*search, *validation} & set(held_out)


@pytest.mark.parametrize(
    "asked, words",
    [
        (("genral", "search"), "one of general, tabletop, got 'genral'"),
        (("general", "train"), "one of search, validation, held-out, got 'train'"),
        (("general", "search", "color"), "got 'color'"),
        (("tabletop", "search", "colour"), "expected none"),
    ],
)
def test_a_wrong_name_is_told_what_there_is(asked, words):
    with pytest.raises(PromptError, match="expected") as refused:
        prompt_set(*asked)
    assert words in str(refused.value)
