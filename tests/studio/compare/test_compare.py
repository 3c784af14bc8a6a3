"""Compare without a browser."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from calibri.errors import CalibriError, RenderCancelled, RenderError
from calibri.ranges import LONGEST_PROMPT
from studio.compare.comparison import compare, get_history
from studio.compare.form import (
    AGAINST,
    MOST_ROWS,
    USUAL,
    Form,
    FormError,
    check_form,
    form_of,
    read_order,
    read_prompts,
    read_seeds,
)
from studio.compare.layout import AGAINST_WORDS
from studio.compare.measures import compute_means
from studio.compare.page import get_latest
from studio.compare.send import draft_study, find_calibration
from studio.compare.view import (
    count_columns,
    list_thumbnails,
    list_tiles,
    list_values,
    read_values,
    write_count,
    write_means,
)
from studio.core import Core
from studio.rendering.arms import DESK, NOTHING, Choice, list_choices, resolve_arms
from studio.rendering.asks import Ask
from studio.rendering.places import SharedPlace
from studio.scales.edits import add_member, change, open_calibration
from tests.studio.compare.pictures import CUBE, caption_of, pixels


def problems_of(core: Core, form: Form) -> dict[str, str]:
    """Field → sentence, of a form that cannot be rendered; empty for one that can."""
    try:
        read_order(form, core.host.backbone, core.settings.demo)
    except FormError as error:
        return error.problems
    return {}


def test_three_arms_of_one_noise_give_three_pictures(stocked: Core, visitor: str) -> None:
    made = compare(stocked, visitor, CUBE)
    base, calibrated, ensemble = (pixels(s.image) for s in made.shots)
    assert not np.array_equal(base, calibrated)
    assert not np.array_equal(calibrated, ensemble)
    assert [s.nfe for s in made.shots] == [2, 2, 4]


def test_the_same_question_gives_the_same_picture_and_another_seed_another(
    stocked: Core, visitor: str
) -> None:
    first, second, third = (compare(stocked, visitor, replace(CUBE, seed=s)).shots for s in (3, 3, 4))
    assert np.array_equal(pixels(first[1].image), pixels(second[1].image))
    assert not np.array_equal(pixels(first[0].image), pixels(third[0].image))


def test_an_arm_without_a_calibration_says_so_and_the_base_is_rendered(core: Core, visitor: str) -> None:
    base, calibrated, ensemble = compare(core, visitor, CUBE).shots
    assert base.image is not None
    assert calibrated.image is None and "No calibration" in caption_of(calibrated, base)
    assert ensemble.image is None and "No ensemble" in caption_of(ensemble, base)


def test_calibrated_stands_for_the_one_by_layer_as_on_the_first_visit(
    stocked: Core, visitor: str, tmp_path: Path
) -> None:
    bent = next(e.calibration for e in stocked.calibrations.entries() if e.calibration.title == "Bent")
    by_gate = bent.on_layout(stocked.host.wait_ready().layout("gate"))
    by_gate.model_copy(update={"title": "Another"}).save(tmp_path / "built-in" / "another.json")
    assert stocked.calibrations.entries()[0].calibration.title == "Another"
    shot = compare(stocked, visitor, CUBE).shots[1]
    assert shot.arm.calibration is not None and shot.arm.calibration.title == "Bent"


def test_the_desk_can_be_an_arm_and_is_an_ensemble_with_two_members(core: Core, visitor: str) -> None:
    asked = replace(CUBE, arms=(Choice(DESK), Choice("base")))
    assert "empty" in compare(core, visitor, asked).shots[0].arm.missing
    change(core, visitor, lambda d: d.set([1.3] * len(d.layout.names)))
    assert compare(core, visitor, asked).shots[0].arm.kind == "calibrated"
    add_member(core, visitor)
    shot = compare(core, visitor, asked).shots[0]
    assert shot.arm.kind == "ensemble" and shot.nfe == 4


def test_each_arm_has_steps_and_guidance_of_its_own(stocked: Core, visitor: str) -> None:
    arms = (Choice("base", 5), Choice("calibrated", guidance=2.0), Choice("ensemble", 3, 2.0))
    made = compare(stocked, visitor, replace(CUBE, arms=arms))
    assert [s.ask.steps for s in made.shots] == [5, 2, 3]
    assert [s.nfe for s in made.shots] == [5, 4, 6]  # the ensemble has its guidance in its weights
    assert "guidance" in caption_of(made.shots[1], None)
    assert "guidance" not in caption_of(made.shots[2], None)


def test_the_preset_compares_base_at_many_steps_with_calibrated_at_few(stocked: Core, visitor: str) -> None:
    made = compare(stocked, visitor, replace(CUBE, arms=AGAINST))
    assert [s.nfe for s in made.shots] == [30, 8, 8]
    assert AGAINST_WORDS == "Base at 30 against calibrated at 8"


def test_any_saved_calibration_can_be_an_arm(stocked: Core, visitor: str) -> None:
    kinds = dict(list_choices(stocked, stocked.visitors.of(visitor)))
    assert kinds["Bent (layer)"] == "studio/bent" and kinds["Pair (2 members, layer)"] == "studio/pair"
    made = compare(stocked, visitor, replace(CUBE, arms=(Choice("studio/pair"), Choice("studio/bent"))))
    assert [s.arm.kind for s in made.shots] == ["ensemble", "calibrated"]
    with pytest.raises(CalibriError, match="no saved calibration"):
        compare(stocked, visitor, replace(CUBE, arms=(Choice("own/gone"),)))


def test_prompts_and_seeds_make_a_grid(stocked: Core, visitor: str) -> None:
    form = replace(CUBE, prompts="a blue cone\n\n a red  cube \n", seeds="4, 6-7")
    made = compare(stocked, visitor, form)
    asked = [(row[0].ask.prompt, row[0].ask.seed) for row in made.rows]
    assert asked == [(p, s) for p in ("a red cube", "a blue cone") for s in (3, 4, 6, 7)]
    assert all(len({s.ask.seed for s in row}) == 1 for row in made.rows)
    assert len({pixels(row[1].image).tobytes() for row in made.rows}) == len(made.rows)
    assert len(list_tiles(made.rows)) == len(made.rows) * count_columns(made) == 24
    alone = compare(stocked, visitor, replace(CUBE, prompt="a blue cone", seed=6))
    again = made.rows[asked.index(("a blue cone", 6))]
    # Another number of rows in a batch may round a pixel to its neighbouring level.
    assert np.abs(pixels(alone.shots[2].image).astype(int) - pixels(again[2].image)).max() <= 1


def test_a_single_row_has_no_grid(stocked: Core, visitor: str) -> None:
    made = compare(stocked, visitor, CUBE)
    assert list_tiles(made.rows) == [] and write_means(made) == ""


def test_means_are_paired_with_base(stocked: Core, visitor: str) -> None:
    made = compare(stocked, visitor, replace(CUBE, seeds="4"))
    rows = [
        [replace(s, rewards={"align": 0.1 * i + (0.5 if s.arm.kind == "calibrated" else 0.0)}) for s in row]
        for i, row in enumerate(made.rows)
    ]
    scored = replace(made, shots=rows[0], more=rows[1:])
    base, calibrated, _ = compute_means(scored)
    assert base["rewards"]["align"][0] == pytest.approx(0.05)
    assert base["rewards"]["align"][1] is None  # base is not compared with itself
    interval = calibrated["rewards"]["align"][1]
    assert interval.mean == pytest.approx(0.5) and interval.n == 2
    assert "+0.50" in write_means(scored)


@pytest.mark.parametrize(
    "text, seeds",
    [
        ("", []),
        (None, []),
        ("4, 7", [4, 7]),
        ("10-12", [10, 11, 12]),
        (" 1;2 3 ", [1, 2, 3]),
        ("5–6", [5, 6]),
    ],
)
def test_seeds_are_read(text, seeds: list[int]) -> None:
    assert read_seeds(text) == tuple(seeds)


@pytest.mark.parametrize("text", ["a", "-1", "3-", "9-2", "1.5", "99999999999999999999", "0-100000"])
def test_seeds_that_cannot_be_read_are_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="written like"):
        read_seeds(text)
    assert "written like" in write_count("a", "", text, "base")


def test_words_count_the_pictures() -> None:
    assert write_count("a", "", "", "base", "calibrated", NOTHING) == ""
    assert "2 prompts × 3 seeds × 2 arms = 12" in write_count("a", "b", "1, 2", "base", "desk", NOTHING)
    assert "&lt;b&gt;" in write_count("a", "", "<b>", "base")
    assert read_prompts("one\ntwo", "two\n\nthree") == ("one", "two", "three")


@pytest.mark.parametrize(
    "prompt, seed, steps, field",
    [
        ("", 3, 8, "prompt"),
        ("   ", 3, 8, "prompt"),
        (None, 3, 8, "prompt"),
        ("x" * (LONGEST_PROMPT + 1), 3, 8, "prompt"),
        ("a cube", -1, 8, "seed"),
        ("a cube", None, 8, "seed"),
        ("a cube", 1.5, 8, "seed"),
        ("a cube", float("nan"), 8, "seed"),
        ("a cube", 3, 0, "steps"),
        ("a cube", 3, "8", "steps"),
        ("a cube", 3, True, "steps"),
    ],
)
def test_what_cannot_be_asked_is_said_at_its_field(core: Core, prompt, seed, steps, field) -> None:
    assert list(problems_of(core, Form(prompt, seed, steps))) == [field]
    with pytest.raises(RenderError, match=f"{field}: expected"):
        Ask.read(prompt, seed, steps)


@pytest.mark.parametrize(
    "changed, field",
    [
        ({"prompts": "x" * (LONGEST_PROMPT + 1)}, "prompts"),
        ({"seeds": "much"}, "seeds"),
        ({"seeds": f"100-{100 + MOST_ROWS}"}, "seeds"),
        ({"guidance": 0.5}, "guidance"),
        ({"width": 33}, "width"),
        ({"height": 10_000}, "height"),
        ({"width": "wide"}, "width"),
        ({"arms": (Choice("base", 0), Choice("base"))}, "steps-1"),
        ({"arms": (Choice("base"), Choice("base", None, 199.0))}, "guidance-2"),
        ({"arms": (Choice(NOTHING),) * 3}, "arms"),
    ],
)
def test_every_other_field_is_checked_too(core: Core, visitor: str, changed, field: str) -> None:
    form = replace(CUBE, **changed)
    assert list(problems_of(core, form)) == [field]
    with pytest.raises(RenderError):
        compare(core, visitor, form)


def test_the_size_is_the_visitors_within_the_backbones_limits(stocked: Core, visitor: str) -> None:
    made = compare(stocked, visitor, replace(CUBE, width=48, height=32))
    assert {s.image.size for s in made.shots} == {(48, 32)}


def test_a_public_studio_renders_fewer_rows(core: Core) -> None:
    demo = replace(core, settings=core.settings.model_copy(update={"demo": True}))
    form = replace(CUBE, seeds="10-17")
    assert not problems_of(core, form)
    assert "at once" in problems_of(demo, form)["seeds"]


def test_a_newer_press_calls_off_the_older(stocked: Core, visitor: str) -> None:
    caught, thread = _long_one(stocked, visitor)
    newer = compare(stocked, visitor, Form("a blue cone", 2, 2))
    thread.join(60)
    assert len(caught) == 1 and isinstance(caught[0], RenderCancelled)
    assert get_latest(stocked, visitor) is newer


def test_stop_ends_a_render_under_way_and_leaves_the_history(stocked: Core, visitor: str) -> None:
    caught, thread = _long_one(stocked, visitor)
    stocked.visitors.of(visitor).stop("compare")
    thread.join(60)
    assert len(caught) == 1 and isinstance(caught[0], RenderCancelled)
    assert not get_history(stocked, visitor)


def _long_one(core: Core, visitor: str) -> tuple[list[BaseException], threading.Thread]:
    """A render of 100 steps in a thread, and what it ends with, once its first step is done."""
    started = threading.Event()
    caught: list[BaseException] = []

    def older() -> None:
        try:
            compare(core, visitor, Form("a red cube", 1, 100), on_step=lambda *_: started.set())
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=older)
    thread.start()
    assert started.wait(60)
    return caught, thread


def test_steps_are_counted_over_all_batches(stocked: Core, visitor: str) -> None:
    told: list[tuple[int, int]] = []
    arms = (Choice("base", 3), Choice("calibrated"), Choice("ensemble"))
    form = replace(CUBE, seeds="4, 5", arms=arms)
    compare(stocked, visitor, form, on_step=lambda *now: told.append(now))
    done, totals = zip(*told)
    assert list(done) == sorted(set(done)) and set(totals) == {done[-1]}


def test_history_is_the_newest_first_and_belongs_to_one_visitor(stocked: Core, visitor: str) -> None:
    compare(stocked, visitor, Form("one", 1, 2))
    compare(stocked, visitor, Form("two", 1, 2, seeds="2"))
    words = [text.split(" · ") for _, text in list_thumbnails(stocked, visitor)]
    assert [w[0] for w in words] == ["two", "one"] and words[0][1] == "seed 1 and 1 more"
    assert list_thumbnails(stocked, stocked.visitors.new_id()) == []


def test_the_form_comes_back_from_a_comparison(stocked: Core, visitor: str) -> None:
    arms = (Choice("base", 5), Choice("studio/bent", None, 2.0), Choice(NOTHING))
    form = Form("a red cube", 3, 2, "a blue cone", "4, 5", 1.5, 48, 32, arms)
    assert form_of(compare(stocked, visitor, form)) == form
    assert check_form(read_values(tuple(list_values(form)))) == check_form(form)
    assert read_values((*list_values(CUBE)[:10], None, 0, "", *[None] * 6)).arms == (Choice(NOTHING),) * 3


def test_a_picture_goes_to_the_desk_with_all_its_members(stocked: Core, visitor: str) -> None:
    made = compare(stocked, visitor, CUBE)
    desk, _ = open_calibration(stocked, visitor, find_calibration(stocked, visitor, made.shots[2], USUAL[2]))
    assert [m.weight for m in desk.members] == [1.5, -0.5]
    with pytest.raises(CalibriError, match="base has no scales"):
        find_calibration(stocked, visitor, made.shots[0], USUAL[0])
    # A prepared picture knows its kind only: the studio's first of that kind stands for it.
    prepared = replace(made.shots[1], arm=replace(made.shots[1].arm, calibration=None))
    assert find_calibration(stocked, visitor, prepared, USUAL[1]).title == "Bent"


def test_a_study_keeps_the_guidance_and_the_size_of_its_pictures(stocked: Core, visitor: str) -> None:
    form = replace(CUBE, guidance=2, negative="blue", embedded=1.5, width=32, height=16, arms=AGAINST[:2])
    sent = draft_study(stocked, visitor, compare(stocked, visitor, form))
    for arm in sent.arms:
        assert (arm.guidance, arm.negative, arm.embedded, arm.width, arm.height) == (2, "blue", 1.5, 32, 16)


def test_a_comparison_becomes_the_form_of_a_study(stocked: Core, visitor: str) -> None:
    from studio.studies.pages import new
    from studio.studies.planning import NewArm

    form = replace(CUBE, prompts="a blue cone", seeds="4", arms=(*AGAINST[:2], Choice("base", 30)))
    sent = draft_study(stocked, visitor, compare(stocked, visitor, form))
    arms = [NewArm(**asdict(arm)) for arm in sent.arms]
    assert [(a.kind, a.steps) for a in arms] == [("base", 30), ("calibrated", 8), ("base", 30)]
    assert len({a.label for a in arms}) == 3
    assert sent.prompts == "a red cube\na blue cone" and sent.seeds == 2
    place = stocked.visitors.of(visitor).place(SharedPlace)
    place.draft = sent
    filled = new.take_draft(stocked, visitor)
    assert (
        filled[0] == [asdict(arm) for arm in sent.arms]
        and "Bent, 8 steps" in filled[1]
        and filled[2:] == [sent.prompts, 2]
    )
    assert place.draft is None  # taken once
    with pytest.raises(CalibriError, match="at least two"):
        draft_study(stocked, visitor, compare(stocked, visitor, replace(CUBE, arms=(Choice("base"),))))


def test_an_arm_of_nothing_is_not_rendered(stocked: Core, visitor: str) -> None:
    [arm] = resolve_arms(stocked, [Choice(NOTHING)], stocked.visitors.of(visitor))
    assert arm.missing
    made = compare(stocked, visitor, replace(CUBE, arms=(Choice("base"), Choice(NOTHING), Choice(NOTHING))))
    assert [s.image is None for s in made.shots] == [False, True, True]
