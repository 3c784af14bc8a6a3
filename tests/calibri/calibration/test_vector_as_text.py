"""Scales as text a person can write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.sites import sites_of_config
from calibri.calibration.vector_text import (
    LONGEST_TEXT,
    MOST_ASSIGNMENTS,
    MOST_CHOICES,
    MOST_PARTS,
    format_vector,
    parse_vector,
)
from calibri.errors import LayoutError

SITES = sites_of_config("FluxTransformer2DModel", {"num_layers": 4, "num_single_layers": 3})
LAYOUTS = {g: Layout.from_sites(SITES, g) for g in GRANULARITIES}
LAYER = LAYOUTS["layer"]


def changed(text, layout=LAYER):
    """name → scale of what is not 1."""
    return {n: v for n, v in zip(layout.names, parse_vector(text, layout), strict=True) if v != 1}


def test_ranges_lists_and_stars():
    assert changed("double[1-2].attn = 1.05") == {"double.1.attn": 1.05, "double.2.attn": 1.05}
    assert changed("single[0,2].fused = .5") == {"single.0.fused": 0.5, "single.2.fused": 0.5}
    assert changed("double.*.mlp = 2; double[1-3].mlp = 1") == {"double.0.mlp": 2.0}
    assert set(changed("* = 3").values()) == {3.0}


def test_a_block_stands_for_all_that_is_in_it():
    assert changed("double.3 = 0.9") == {"double.3.attn": 0.9, "double.3.mlp": 0.9}
    assert list(changed("double.3 = 0.9", LAYOUTS["gate"])) == [
        f"double.3.{s}.{layer}" for s in ("img", "txt") for layer in ("attn", "mlp")
    ]


def test_a_layer_stands_for_both_streams():
    assert list(changed("double.0.attn = 2", LAYOUTS["gate"])) == ["double.0.img.attn", "double.0.txt.attn"]


def test_later_lines_win_and_comments_do_not_count():
    assert changed("double = 2 # all of them\n\n double.0 = 1\ndouble[1-3] = 1;double.2.mlp=4") == {
        "double.2.mlp": 4.0
    }


def test_a_plain_list_of_all_numbers():
    numbers = [1 + i / 10 for i in range(len(LAYER.names))]
    assert parse_vector(str(numbers), LAYER) == tuple(numbers)


def test_equal_neighbours_share_a_line():
    assert format_vector([1.05] * 6 + [1.0] * 2 + [0.9] * 3, LAYER) == (
        "double[0-2].attn = 1.05\ndouble[0-2].mlp = 1.05\nsingle[0-2].fused = 0.9"
    )


@pytest.mark.parametrize("granularity", GRANULARITIES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_text_gives_back_the_same_numbers(granularity, data):
    layout = LAYOUTS[granularity]
    number = st.one_of(st.sampled_from([1.0, 1.05, 0.9]), st.floats(-1e6, 1e6))
    values = data.draw(st.lists(number, min_size=len(layout), max_size=len(layout)))
    assert parse_vector(format_vector(values, layout), layout) == tuple(values)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "got no text"),
        ("# only a comment", "got no text"),
        ("double.9.attn = 1", "line 1.*'double.9.attn'"),
        ("double.0 = 1\nduble.1 = 2", "line 2.*did you mean double.1"),
        ("double.0 = 1\ndouble.1 2", "line 2: expected `name = number`"),
        ("double.1 = fast", "line 1: expected a number, got 'fast'"),
        ("double.1 = nan", "finite"),
        ("double.1 = 1e999", "finite"),
        ("double[3-1] = 1", "from low to high"),
        ("double[a] = 1", "indices like"),
        ("double[0-99999999] = 1", "from 0 to 3, got 99999999"),
        ("double..1 = 1", "expected a name"),
        (" = 1", "expected a name"),
        ("1 2 3", "all 11 numbers"),
    ],
)
def test_wrong_text_says_which_line(text, words):
    with pytest.raises(LayoutError, match=words):
        parse_vector(text, LAYER)


@pytest.mark.parametrize(
    "text",
    [
        "double[1-2].attn = 1.05, single[0] = 0.9",
        "double[1-2].attn: 1.05\nsingle.0: 0.9",
        "\ufeffdouble[1–2].attn = 1.05 // warmer edges\r\nsingle.0 = 0.9 # and this",
        "double.1.attn,1.05\ndouble.2.attn,1.05\nsingle.0.fused,0.9",
        "name\tscale\ndouble[1,2].attn\t1.05\nsingle.0\t.9",
        '{"double.1.attn": 1.05,\n "double.2.attn": 1.05, "single.0": 9e-1}',
        "double[1−2].attn = +1.05;;\n\u200bsingle.0.fused = 0.9",
    ],
)
def test_the_ways_in_which_people_write_a_vector(text):
    assert changed(text) == {"double.1.attn": 1.05, "double.2.attn": 1.05, "single.0.fused": 0.9}


def test_a_minus_of_any_kind_and_a_star_for_any_block():
    assert changed("double.0.attn = −0.5") == {"double.0.attn": -0.5}
    assert set(changed("*.attn = 1.1")) == {f"double.{i}.attn" for i in range(4)}
    assert set(changed("*[1-2].attn = 1.1")) == {"double.1.attn", "double.2.attn"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("double[0-18].attn = 1.1", "line 1: expected an index of double from 0 to 3, got 18"),
        ("double.0 = 1\nsingle[1,55] = 0.9", "line 2: expected an index of single from 0 to 2, got 55"),
        ("*[7].attn = 1", "from 0 to 3, got 7"),
        ("double.0.attn = 1_05", "expected a number, got '1_05'"),
        ("double.0.attn = ١", "expected a number"),
        ("double.0.attn = 1,05", "got '05'.*with a point"),
        ("double.0 = 1 fast", "expected a number, got '1 fast'"),
        ("double[0].[1] = 1", "expected a name"),
    ],
)
def test_what_would_be_read_in_part_is_refused_in_words(text, words):
    with pytest.raises(LayoutError, match=words):
        parse_vector(text, LAYER)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='double.0[],-;=:*#/ 19\n"{}', max_size=60))
def test_any_text_gives_numbers_or_a_sentence(text):
    try:
        assert len(parse_vector(text, LAYER)) == len(LAYER)
    except LayoutError as error:
        assert "expected" in str(error) or "no scale is named" in str(error)


def assign(count):
    return "\n".join(["double.0 = 2"] * count)


@pytest.mark.parametrize(
    "make, most, words",
    [
        (lambda n: "double.0 = 2 #".ljust(n, "x"), LONGEST_TEXT, "characters"),
        (assign, MOST_ASSIGNMENTS, "assignments"),
        (lambda n: f"double[{','.join(['0'] * n)}] = 2", MOST_CHOICES, "indices"),
    ],
)
def test_a_text_is_counted_before_it_is_read(make, most, words):
    assert set(changed(make(most))) == {"double.0.attn", "double.0.mlp"}
    with pytest.raises(LayoutError, match=rf"expected at most {most} {words}, got {most + 1}"):
        parse_vector(make(most + 1), LAYER)


def test_a_name_has_few_parts():
    with pytest.raises(LayoutError, match="no scale is named"):
        parse_vector(".".join("a" * MOST_PARTS) + " = 1", LAYER)
    with pytest.raises(LayoutError, match=f"at most {MOST_PARTS} parts"):
        parse_vector(".".join("a" * (MOST_PARTS + 1)) + " = 1", LAYER)


@pytest.mark.parametrize("text", ["double[0-9999" + ",0-9999" * 50 + "] = 2", "x" * 60_000 + " = 2"])
def test_a_short_text_is_little_work(text):
    """What took 20 s and more: counted in calls of Python functions, as time depends on the machine."""
    import sys

    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        parse_vector(text, LAYER)
    except LayoutError as error:
        assert len(str(error)) < 300
    finally:
        sys.setprofile(None)
    assert calls < 20_000
