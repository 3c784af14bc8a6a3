"""The words of the field: one table, marked wherever they stand."""

from __future__ import annotations

import re

import pytest

from studio.ui.elements import caption
from studio.ui.glossary import FORMS, WORDS, explain, list_words, mark, meanings, script
from studio.ui.theme import head


@pytest.mark.parametrize(
    "word", ["align", "judge", "spread", "axis ratio", "NFE", "arm", "sigma", "gain", "held-out", "Scales"]
)
def test_the_fields_words_have_a_meaning(word: str) -> None:
    assert len(meanings()[word.lower()]) > 10
    assert mark(word).startswith("<span class='term' tabindex='0' data-tip='")


def test_every_form_is_of_a_word_and_no_word_is_explained_by_itself() -> None:
    assert set(FORMS.values()) <= set(meanings())
    for words, meaning in WORDS.items():
        for word in words.split(", "):
            assert not re.match(rf"{re.escape(word)}\b", meaning, re.IGNORECASE), word


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(KeyError):
        mark("flux capacitor")


def test_a_sentence_marks_each_word_where_it_comes_first_and_nothing_inside_words_or_tags() -> None:
    made = explain("Sigma, sigma and the axis ratio of scales; a scale; realign; charm.")
    assert re.findall(r"'>([^<]+)</span>", made) == ["Sigma", "axis ratio", "scales"]
    assert (
        re.sub(r"<[^>]*>", "", made) == "Sigma, sigma and the axis ratio of scales; a scale; realign; charm."
    )
    from markupsafe import Markup

    tagged = explain(Markup("<b title='sigma'>spread</b>"))
    assert tagged.startswith("<b title='sigma'><span") and tagged.count("<span") == 1


def test_what_people_typed_is_escaped() -> None:
    made = explain("<script>sigma</script>")
    assert "<script>" not in made and "&lt;script&gt;" in made and ">sigma</span>" in made


def test_only_the_wanted_words_are_marked() -> None:
    assert explain("8 NFE at 3 steps", only="NFE").count("<span") == 1


def test_captions_explain_rewards_and_evaluations() -> None:
    made = caption("base", "Base", ["8 steps", "8 NFE"], {"align": 1.0, "my_reward": 2.0})
    assert set(re.findall(r"data-tip='[^']*'>([^<]+)<", made)) == {"NFE", "align"}


def test_every_page_gets_the_words_once() -> None:
    assert head().count("window.calibriWords = ") == 1 and "</script" not in script()
    assert list_words("sigma", "spread").count("data-tip") == 2
