"""Links that open a comparison again, and the prompts that a browser remembers."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl, quote

import pytest

from calibri.errors import RenderError
from studio.compare.comparison import compare
from studio.compare.form import Form, FormError, read_order
from studio.compare.link import LONGEST, read_link, write_link
from studio.compare.past import MOST, draw_past, read_past, remember
from studio.core import Core
from studio.machine.host import ModelHost
from studio.rendering import first_visit
from studio.rendering.arms import DESK, NOTHING, Choice
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Comparison
from studio.scales.edits import change
from tests.studio.compare.pictures import CUBE
from tests.studio.launched import launched


def query_of(link: str) -> dict[str, str]:
    assert link.startswith("?")
    return dict(parse_qsl(link[1:], keep_blank_values=True))


def read(core: Core, link: str, visitor: str = "") -> Form | None:
    return read_link(core, core.visitors.of(visitor), query_of(link))


def problems(core: Core, **query: str) -> dict[str, str]:
    with pytest.raises(FormError) as refused:
        read_link(core, core.visitors.of(None), {"prompt": "a cube", "seed": "3", "steps": "2", **query})
    return refused.value.problems


def test_a_link_asks_for_the_same_pictures_again(stocked: Core, visitor: str) -> None:
    arms = (Choice("base", 3), Choice("studio/bent", guidance=2.5), Choice(NOTHING))
    asked = replace(
        CUBE,
        prompt="100 % a+b & “c”?",
        seed=2**62 + 1,
        guidance=1.5,
        width=48,
        negative="grey",
        prompts="another one\nand one more",
        seeds="7, 8",
        arms=arms,
    )
    made = compare(stocked, visitor, asked)
    link = write_link(stocked, made)
    assert "#" not in link and " " not in link
    form = read(stocked, link)
    assert form is not None
    backbone = stocked.host.backbone
    assert read_order(form, backbone) == read_order(asked, backbone)


def test_kinds_are_named_by_the_calibration_that_they_meant(stocked: Core, visitor: str) -> None:
    query = query_of(write_link(stocked, compare(stocked, visitor, CUBE)))
    assert (query["arm-1"], query["arm-2"], query["arm-3"]) == ("base", "studio/bent", "studio/pair")


def test_an_unsaved_arm_has_no_link_until_it_is_saved(stocked: Core, visitor: str) -> None:
    change(stocked, visitor, lambda desk: desk.set([1.3] * len(desk.layout.names)))
    made = compare(stocked, visitor, replace(CUBE, arms=(Choice("base"), Choice(DESK))))
    with pytest.raises(RenderError, match="Arm 2 is not saved in this studio"):
        write_link(stocked, made)
    entry = stocked.calibrations.save(made.shots[1].arm.calibration)
    assert query_of(write_link(stocked, made))["arm-2"] == entry.id
    borrowed = stocked.visitors.place(visitor, SharedPlace).borrow(
        made.shots[1].arm.calibration.changed(title="Lent", members=made.shots[1].arm.calibration.members * 2)
    )
    lent = compare(stocked, visitor, replace(CUBE, arms=(Choice(borrowed),)))
    with pytest.raises(RenderError, match="Arm 1 is not saved"):
        write_link(stocked, lent)


def test_the_prepared_pictures_have_a_link_too(stocked: Core) -> None:
    first = Comparison(first_visit.usual_ask(stocked))
    assert query_of(write_link(stocked, first))["arm-2"] == "calibrated"


def test_a_link_that_gets_too_long_is_refused_on_both_ends(stocked: Core, visitor: str) -> None:
    made = compare(stocked, visitor, replace(CUBE, prompt="x" * LONGEST))
    with pytest.raises(RenderError, match=rf"link of at most {LONGEST} characters, got \d+"):
        write_link(stocked, made)
    assert "at most 4000 characters" in problems(stocked, prompts="y" * 5000)["prompt"]


@pytest.mark.parametrize(
    "query, field, words",
    [
        ({"prompt": " "}, "prompt", "expected what the picture should show"),
        ({"seed": "-1"}, "seed", "expected a whole number from 0"),
        ({"steps": "many"}, "steps", "got 'many'"),
        ({"steps": "1e3"}, "steps", "got '1e3'"),
        ({"steps": "1001"}, "steps", "expected a whole number from 1 to 1000"),
        ({"guidance": "0.5"}, "guidance", "expected a number from 1"),
        ({"width": "33"}, "width", "expected a multiple of 16"),
        ({"seeds": "5-1"}, "seeds", "expected seeds written like"),
        ({"seeds": "1-900"}, "seeds", "expected at most 16 rows at once"),
        ({"arm-1": "studio/gone"}, "arm-1", "expected a calibration of this studio, got 'studio/gone'"),
        ({"arm-1": "none"}, "arms", "expected at least one arm"),
        ({"arm-1": "base", "steps-1": "0.5"}, "steps-1", "expected a whole number"),
    ],
)
def test_what_a_link_says_is_checked_as_what_is_typed(
    stocked: Core, query: dict[str, str], field: str, words: str
) -> None:
    found = problems(stocked, **query)
    assert words in found[field], found


def test_an_address_without_a_prompt_is_no_link(stocked: Core) -> None:
    assert read(stocked, "?__theme=dark&view=api") is None


def test_what_a_link_leaves_out_is_usual(stocked: Core) -> None:
    form, usual = read(stocked, "?prompt=a+cone"), first_visit.usual_ask(stocked)
    assert form is not None
    assert (form.steps, form.guidance, form.seed) == (usual.steps, usual.guidance, str(usual.seed))
    assert [arm.what for arm in form.arms] == ["base", "calibrated", "ensemble"]


def test_an_opened_link_fills_the_form_and_renders_nothing(host: ModelHost, tmp_path) -> None:
    """As a browser asks for the values of its page: the event carries the page's query."""
    with launched(tmp_path, host, demo=True) as studio, studio.client() as client:
        client.get("/")
        [number] = [
            n
            for n in studio.indices("on_open")
            if any(getattr(block, "elem_id", "") == "caption-base" for block in studio.app.fns[n].outputs)
        ]
        fields = studio.app.fns[number].outputs
        [at] = [i for i, block in enumerate(fields) if getattr(block, "elem_id", "") == "prompt"]
        [told] = [i for i, block in enumerate(fields) if getattr(block, "elem_id", "") == "remark"]
        body = {
            "data": [None] * len(studio.app.fns[number].inputs),
            "fn_index": number,
            "session_hash": "abcdef",
        }
        for link, prompt, words in (
            ("?prompt=a+cone&seed=5&steps=2", "a cone", "came with a link"),
            ("?prompt=a+cone&steps=no", "a red cube", "expected a whole number"),
            (f"?prompt={quote('<script>x</script>')}", "<script>x</script>", "came with a link"),
            ("", "", ""),
        ):
            answer = client.post(f"/gradio_api/run/predict{link}", json=body)
            assert answer.status_code == 200, answer.text
            data = answer.json()["data"]
            assert words in data[told]
            if prompt and "no" not in link:
                assert data[at] == prompt
            assert "<script" not in data[told]
        assert studio.core.host.status.activity == "" and not studio.core.limits._buckets  # nothing was asked


# last prompts


def test_the_last_prompts_are_kept_newest_first_each_once() -> None:
    kept: list[str] = []
    for number in range(MOST + 5):
        kept = remember(kept, [f"prompt {number}"])
    assert len(kept) == MOST and kept[0] == f"prompt {MOST + 4}"
    assert remember(kept, ["prompt 20", "new"])[:3] == ["prompt 20", "new", f"prompt {MOST + 4}"]
    assert remember(kept, ["prompt 20"]).count("prompt 20") == 1


@pytest.mark.parametrize("kept", [None, "x", 3, {"a": 1}, [1, None, ["x"], "", "y" * 5000]])
def test_what_a_browser_sends_is_not_trusted(kept: object) -> None:
    assert read_past(kept) == []
    assert draw_past(kept) == ""


def test_last_prompts_are_escaped() -> None:
    html = draw_past(["<img src=x onerror=y> a 'cube'"])
    assert "<img" not in html and "title='&lt;img" in html and "&#39;cube&#39;" in html
