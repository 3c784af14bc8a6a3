from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from calibri.errors import StudyError
from calibri.ranges import LARGEST_SEED
from studio.rendering.prompt_files import read_prompt_file
from studio.studies.planning import (
    FIRST_SEED,
    NewArm,
    NewPrompt,
    NewStudy,
    draw_picture_seed,
    draw_prompts,
    plan,
    read_prompts,
    read_study,
)
from studio.studies.protocol import PRESETS, Protocol, Question
from tests.studio.studies.conftest import calibration

ARMS = (NewArm(label="base"), NewArm(label="c", kind="calibrated", calibration=calibration()))


def plan_here(new: NewStudy, key: bytes = b"this folder's"):
    return plan(new, key)


def new(count: int = 3, **more) -> NewStudy:
    texts = tuple(NewPrompt(text=f"p{i}") for i in range(count))
    return NewStudy(**{"name": "n", "arms": ARMS, "prompts": texts, "seed": 1, **more})


def test_every_pair_of_arms_meets_on_every_prompt_and_seed():
    arms = (*ARMS, NewArm(label="d", kind="calibrated", calibration=calibration(1.3)))
    _, _, pairs = plan_here(new(arms=arms, seeds_per_prompt=2, protocol=Protocol()))
    assert len({(p.prompt, p.seed, p.arm_x, p.arm_y) for p in pairs}) == len(pairs) == 3 * 2 * 3


def test_the_same_seed_makes_the_same_study():
    keys = [[(p.prompt, p.seed, p.kind) for p in plan_here(new())[2]] for _ in range(2)]
    assert keys[0] == keys[1]


def test_seeds_of_pictures_do_not_follow_from_the_study_s_seed_alone():
    asked = new(20, protocol=Protocol())
    one, other = ([p.seed for p in plan_here(asked, key)[2]] for key in (b"one folder's", b"another's"))
    assert not set(one) & set(other)
    assert len(set(one)) == 20
    assert one[0] == draw_picture_seed(b"one folder's", 1, 0)


@pytest.mark.parametrize("arms", [2, 3, 4])
def test_each_arm_is_the_unspoilt_one_of_gold_pairs_about_equally_often(arms):
    more = tuple(
        NewArm(label=f"c{i}", kind="calibrated", calibration=calibration(1 + i / 10)) for i in range(1, arms)
    )
    asked = new(60, arms=(ARMS[0], *more), protocol=Protocol(cap=250, gold_rate=0.2))
    _, made, pairs = plan_here(asked)
    gold = [p for p in pairs if p.kind == "gold"]
    unspoilt = Counter(p.arm_x for p in gold)
    assert len(unspoilt) == arms
    assert max(unspoilt.values()) - min(unspoilt.values()) <= 1
    assert {p.arm_y for p in gold} == {made[-1].id}


def test_seeds_are_none_that_the_compare_page_rolls():
    assert all(100_000 < FIRST_SEED <= p.seed <= LARGEST_SEED for p in plan_here(new(50))[2])


def test_gold_and_repeat_pairs_are_planned_as_the_protocol_says():
    _, arms, pairs = plan_here(new(10, protocol=PRESETS["side-by-side"]))
    kinds = [p.kind for p in pairs]
    assert kinds.count("real") == kinds.count("repeat") == 10
    assert kinds.count("gold") == 4  # of 13 showings a tenth, and two to spare
    assert arms[-1].kind == "gold"
    assert not {p.seed for p in pairs if p.kind == "gold"} & {p.seed for p in pairs if p.kind == "real"}


@pytest.mark.parametrize(
    "more, word",
    [
        ({"arms": ARMS[:1]}, "at least 2"),
        ({"arms": (ARMS[0], ARMS[0])}, "different labels"),
        ({"arms": (NewArm(label="base", width=64, height=64), ARMS[1])}, "one size"),
        ({"prompts": (NewPrompt(text="a"), NewPrompt(text="a"))}, "twice"),
        ({"prompts": ()}, "at least 1"),
        ({"name": ""}, "at least 1"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_what_makes_no_study(more, word):
    with pytest.raises(ValidationError, match=word):
        new(**more)


def test_too_many_pairs():
    with pytest.raises(ValidationError, match="too many"):
        new(300, seeds_per_prompt=100)


def test_an_arm_has_what_its_kind_needs():
    with pytest.raises(ValidationError, match="every other arm has one"):
        NewArm(label="c", kind="calibrated")


def test_a_calibration_of_another_backbone():
    with pytest.raises(StudyError, match="Expected a calibration of FLUX"):
        plan_here(new(backbone="FLUX.1-dev"))


def test_prompts_from_lines():
    found = read_prompts("a red cube\n\n  a cone \na red cube\n")
    assert [p.text for p in found] == ["a red cube", "a cone"]


def test_prompts_from_csv_with_categories():
    found = read_prompts('category,prompt\none,"a cube, red"\ntwo,a cone\n')
    assert [(p.text, p.category) for p in found] == [("a cube, red", "one"), ("a cone", "two")]


def test_a_study_takes_every_format_and_the_backbones_own_prompts(tmp_path):
    assert [p.category for p in read_prompts('{"prompt": "a", "tag": "x"}\n{"prompt": "b", "tag": "y"}')] == [
        "x",
        "y",
    ]
    drawn = draw_prompts("FLUX.1-dev", "held-out", 13)
    assert len({p.category for p in drawn}) == 13
    (tmp_path / "parti.tsv").write_text("Prompt\tCategory\na cube\tx\na cone\ty\n")
    assert read_prompts(read_prompt_file(str(tmp_path / "parti.tsv"))) == (
        NewPrompt(text="a cube", category="x"),
        NewPrompt(text="a cone", category="y"),
    )


@pytest.mark.parametrize(
    "text, word", [("", "no prompts"), ("\n \n", "no prompts"), ("a" * 5000, "4000 characters, got 5000")]
)
def test_prompts_that_are_none(text, word):
    with pytest.raises(StudyError, match=word):
        read_prompts(text)


def test_equal_protocols_have_equal_hashes_and_others_do_not():
    assert Protocol().hash == Protocol.model_validate_json(Protocol().to_json()).hash
    assert len({p.hash for p in [*PRESETS.values(), Protocol(cap=31)]}) == len(PRESETS) + 1


def test_questions_need_different_ids():
    asked = Question(id="a", text="Which one?")
    with pytest.raises(ValidationError, match="different ids"):
        Protocol(questions=(asked, asked))


def test_an_ensemble_has_no_guidance_beside_its_own():
    with pytest.raises(ValidationError, match="guidance in its weights"):
        NewArm(label="many", kind="ensemble", calibration=calibration(), guidance=2)


def test_an_arm_is_what_its_calibration_is():
    wrong = NewArm(label="many", kind="ensemble", calibration=calibration())
    with pytest.raises(StudyError, match="one member"):
        plan_here(NewStudy(name="t", arms=(NewArm(label="base"), wrong), prompts=(NewPrompt(text="a"),)))


def test_two_arms_that_render_the_same():
    with pytest.raises(StudyError, match="the same pictures"):
        plan_here(new(arms=(*ARMS, NewArm(label="again", kind="calibrated", calibration=calibration()))))


def test_a_small_study_gets_few_gold_pairs_and_a_large_one_enough_for_its_cap():
    def gold(count: int, **protocol) -> int:
        return sum(p.kind == "gold" for p in plan_here(new(count, protocol=Protocol(**protocol)))[2])

    assert gold(2, cap=250, gold_rate=0.1, repeat_rate=0.1) == 3
    assert gold(200, cap=40, gold_rate=0.1) == 6


def test_page_command_line_and_program_get_one_study_from_what_they_have():
    arms = [arm.model_dump() for arm in ARMS]
    typed = {"name": "n", "arms": arms, "prompts": "a\n\nb\n", "protocol": "five-per-pair", "seed": " "}
    sent = {**typed, "prompts": [{"text": "a"}, {"text": "b"}], "seed": None}
    written = {**typed, "protocol": PRESETS["five-per-pair"].to_json()}
    assert read_study(typed) == read_study(written)
    assert read_study(typed) == read_study({**sent, "protocol": PRESETS["five-per-pair"].model_dump()})


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"seed": "seven"}, ["seed", "'seven'"]),
        ({"protocol": '{"cap": 0}'}, ["protocol.cap", "0"]),
        ({"protocol": "unheard of"}, ["protocol", "unheard of", "five-per-pair"]),
        ({"seeds_per_prompt": None}, ["seeds_per_prompt"]),
        ({"arms": []}, ["at least 2 arms"]),
        ({"prompts": "\n"}, ["no prompts"]),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_the_field(wrong, words):
    with pytest.raises(StudyError) as caught:
        read_study({"name": "n", "arms": [a.model_dump() for a in ARMS], "prompts": "a", **wrong})
    assert all(word in str(caught.value) for word in words)
