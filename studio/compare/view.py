"""What the page Compare shows: from comparisons to values, HTML and updates of its components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from markupsafe import Markup

from calibri.words import count
from studio.compare.comparison import get_history
from studio.compare.form import ARMS, Form, read_prompts, read_seeds
from studio.compare.measures import BRIGHTEST, MAP, compute_means, find_reference, measure_difference
from studio.core import Core
from studio.rendering.arms import KINDS, NOTHING, WORDS, Choice
from studio.rendering.shots import Comparison, Shot
from studio.rendering.view import write_captions
from studio.ui.elements import aside, caption, enlarge, serve_enlarged, show_remark
from studio.ui.glossary import explain
from studio.ui.picture_files import serve
from studio.ui.templates import fill_template

if TYPE_CHECKING:
    from PIL.Image import Image

SENTENCE = (
    "One model, one prompt, the same noise. Nothing was trained. Only a few dozen numbers differ: they "
    "multiply what the model's layers add."
)
MISSING_VISIT = "Type a prompt and press Render: three pictures will appear here."
SLIDER, MAPPED = "Slider", "Difference"
ONE_ALONE = "Two pictures of one size are compared here. Render two arms first."


# the form


def list_values(form: Form) -> list[Any]:
    """The components' values for a form: `Page.fields`."""
    first = [form.prompt, str(form.seed), form.steps, form.prompts, form.seeds, form.guidance]
    size = [form.width, form.height, form.negative, form.embedded]
    own = [*list_choice_values(form.arms), *(arm.loras for arm in form.arms)]
    return [*first, *size, *own]


def list_choice_values(arms: Sequence[Choice]) -> list[Any]:
    """The same for the arms alone."""
    return [value for arm in arms for value in (arm.what, arm.steps, arm.guidance)]


def read_values(values: Sequence[Any]) -> Form:
    """The form from the values of `Page.fields`. An arm has nothing of its own where its field is empty."""
    typed, arms, loras = values[:10], values[10 : 10 + 3 * ARMS], values[10 + 3 * ARMS :]
    triples = zip(arms[::3], arms[1::3], arms[2::3])
    own = [*(each or "" for each in loras), *[""] * ARMS]
    choices = [
        Choice(what or NOTHING, steps or None, guidance or None, loras=uses)
        for (what, steps, guidance), uses in zip(triples, own)
    ]
    return replace(Form(*typed[:8]), negative=typed[8], embedded=typed[9], arms=tuple(choices))


def write_count(prompt: str, more: str, seeds: str, *arms: str) -> str:
    """How many pictures the next Render makes, as HTML; nothing for one row; why seeds cannot be read."""
    try:
        rows = 1 + len(set(read_seeds(seeds)))
    except ValueError as error:
        return aside(f"Seeds: {error}.")
    try:
        prompts = len(read_prompts(prompt, more)) or 1
    except ValueError as error:
        return aside(f"Prompts: {error}.")
    chosen = sum(what != NOTHING for what in arms)
    if prompts * rows < 2:
        return ""
    total = count(prompts * rows * chosen, "picture")
    return aside(f"{count(prompts, 'prompt')} × {count(rows, 'seed')} × {count(chosen, 'arm')} = {total}")


def write_problems(problems: dict[str, str]) -> str:
    """What cannot be rendered, as HTML that a screen reader says at once."""
    words = Markup("<br>").join(f"{text[:1].upper()}{text[1:]}." for text in problems.values())
    return str(Markup("<div class='hint wrong-words' role='alert'>{}</div>").format(words))


def write_lead(comparison: Comparison | None, label: str = "") -> str:
    """The sentence above the pictures: what one sees, and why they differ. `label`: whose they are."""
    words = MISSING_VISIT if comparison is None else f"{SENTENCE} {label}".rstrip()
    return str(Markup("<div class='lead'>{}</div>").format(explain(words)))


# one row of pictures


def write_row(row: Sequence[Shot]) -> list[str]:
    """The HTML under each of the three columns."""
    return (
        write_captions(row, find_reference(row))
        if row
        else [caption(kind, WORDS[kind], []) for kind in KINDS]
    )


def show_row(row: Sequence[Shot]) -> list[Any]:
    """Updates of [image, caption] for each of the three columns."""
    shown = [(serve_enlarged(shot.image), shot.arm.name, shot.arm.kind) for shot in row]
    updates: list[Any] = []
    for (image, name, kind), words in zip(shown or [(None, WORDS[k], k) for k in KINDS], write_row(row)):
        label = name.partition(":")[0]
        updates += [gr.Image(image, label=label, elem_classes=["stage", f"arm-{kind}"], alt_text=name), words]
    return updates


def allow_sending(row: Sequence[Shot]) -> list[Any]:
    """Updates of the three buttons that send a picture's scales to the desk: the base has none."""
    able = [shot.image is not None and shot.arm.kind != "base" for shot in row] or [False] * len(KINDS)
    return [gr.Button(interactive=each) for each in able]


def show_comparison(made: Comparison | None, row: int) -> list[Any]:
    """One row of a comparison and its grid: values of `Page.painted`."""
    if made is None:
        return [*show_row([]), *allow_sending([]), gr.Gallery(visible=False), "", ["", 0]]
    rows = made.rows
    tiles = list_tiles(rows)
    return [
        *show_row(rows[row]),
        *allow_sending(rows[row]),
        gr.Gallery(tiles, columns=count_columns(made), visible=bool(tiles)),
        write_means(made),
        [made.id, row],
    ]


# many rows


def list_tiles(rows: Sequence[Sequence[Shot]]) -> list[tuple[Any, str]]:
    """The grid: every picture in order of prompt and seed, then arm. Empty for a single row."""
    if len(rows) < 2:
        return []
    return [
        (serve(shot.image), f"{shot.arm.name} · seed {shot.ask.seed} · {shot.ask.prompt}")
        for row in rows
        for shot in row
        if shot.image is not None
    ]


def count_columns(comparison: Comparison) -> int:
    """Pictures in one row of the grid."""
    return max(1, sum(shot.image is not None for shot in comparison.shots))


def write_means(comparison: Comparison) -> str:
    """The table of means over the grid, as HTML; nothing for a single row."""
    if not comparison.more:
        return ""
    rows = compute_means(comparison)
    rewards = list(rows[0]["rewards"]) if rows else []
    count_of_rows = 1 + len(comparison.more)
    return fill_template(
        "compare/means.html", rows=rows, rewards=rewards, count=count_of_rows, nan=float("nan")
    )


def list_thumbnails(core: Core, visitor: object) -> list[tuple[Any, str]]:
    """One picture for each comparison of the session: the calibrated one where there is one."""
    made = []
    for comparison in list(get_history(core, visitor)):
        pictured = [s for s in comparison.shots if s.image is not None]
        best = next((s for s in pictured if s.arm.kind == "calibrated"), pictured[0] if pictured else None)
        if best is None:
            continue
        ask, more = comparison.ask, len(comparison.more)
        rest = f" and {more} more" if more else ""
        made.append((serve(best.image), f"{ask.prompt} · seed {ask.seed}{rest} · {ask.steps} steps"))
    return made


# two pictures over one another


class Pair(NamedTuple):
    """Two arms of a row, by their places, and their pictures."""

    left: int
    right: int
    images: tuple[Image, Image]


def choose_pair(row: Sequence[Shot], left: object, right: object) -> Pair | None:
    """The two chosen arms, or the first two that have a picture. None where there are no two."""
    pictures = {i: shot.image for i, shot in enumerate(row) if shot.image is not None}
    if len(pictures) < 2:
        return None
    known = {str(i): i for i in pictures}
    a, b = known.get(str(left)), known.get(str(right))
    if a is None:
        a = next(i for i in pictures if i != b)
    if b is None:
        b = next(i for i in pictures if i != a)
    return Pair(a, b, (pictures[a], pictures[b]))


def list_names(row: Sequence[Shot]) -> list[tuple[str, str]]:
    """(words, place) of each arm, for choosing two of them."""
    names = [shot.arm.name for shot in row] or [WORDS[kind] for kind in KINDS]
    return [(f"{i + 1}: {name}", str(i)) for i, name in enumerate(names)]


def lay_over(row: Sequence[Shot], look: object, left: object, right: object) -> list[Any]:
    """Values of: image slider, difference map, words below, left, right."""
    pair, mapped = choose_pair(row, left, right), look == MAPPED
    places = (pair.left, pair.right) if pair else (0, len(row) - 1)
    ends = [gr.Dropdown(list_names(row), value=str(i)) for i in places] if row else [gr.skip()] * 2
    if pair is None or pair.images[0].size != pair.images[1].size:
        empty = [gr.ImageSlider(None, visible=not mapped), gr.Image(None, visible=mapped)]
        return [*empty, show_remark(ONE_ALONE), *ends]
    if mapped:
        picture, words = measure_difference(*pair.images)
        drawn = gr.Image(serve_enlarged(picture), visible=True, alt_text=f"Difference map. {words}")
        return [gr.ImageSlider(visible=False), drawn, write_legend(words), *ends]
    one, two = map(serve_enlarged, pair.images)
    slider = gr.ImageSlider((one, two), visible=True)
    return [slider, gr.Image(visible=False), write_sides(row, pair), *ends]


def open_overlay(row: Sequence[Shot]) -> tuple[tuple[Image, Image] | None, str]:
    """The slider's pair and the words below as the page opens, before anything was chosen."""
    pair = choose_pair(row, "0", "1")
    if pair is None or pair.images[0].size != pair.images[1].size:
        return None, show_remark(ONE_ALONE)
    return (enlarge(pair.images[0]), enlarge(pair.images[1])), write_sides(row, pair)


def write_sides(row: Sequence[Shot], pair: Pair) -> str:
    """Which arm lies on which side of the slider's handle, as HTML."""
    return aside(f"Left of the handle: {row[pair.left].arm.name}. Right of it: {row[pair.right].arm.name}.")


def write_legend(words: str) -> str:
    """What a difference map shows, in words and as a strip of its colours."""
    stops = ", ".join(f"rgb{colour}" for colour in MAP)
    return fill_template("compare/legend.html", stops=stops, brightest=BRIGHTEST, words=words)
