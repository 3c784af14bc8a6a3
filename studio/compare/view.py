"""What the page Compare shows: values and HTML for its components, from comparisons. Pure but for Gradio's
updates."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from calibri.words import duration, three_digits
from studio.compare.comparison import history_of
from studio.compare.measures import BRIGHTEST, MAP, difference, means, reference
from studio.core import Core
from studio.rendering.shots import Comparison, Shot, facts, name_of
from studio.ui.elements import caption, enlarged, said
from studio.ui.picture_files import served

SENTENCE = (
    "One model, one prompt, the same noise. Nothing was trained: only a few dozen numbers that multiply "
    "what the model's layers add are different."
)
MISSING_VISIT = "Type a prompt and press Render: three pictures will appear here."
COLUMNS = (("base", "Base"), ("calibrated", "Calibrated"), ("ensemble", "Ensemble"))
SLIDER, MAPPED = "Slider", "Difference"
ONE_ALONE = "Two pictures of one size are compared here. Render two arms first."


def caption_of(shot: Shot, base: Shot | None) -> str:
    """The HTML under one picture."""
    if shot.image is None:
        return caption(shot.arm.kind, name_of(shot), [], note=shot.arm.missing)
    return caption(shot.arm.kind, name_of(shot), facts(shot), shot.rewards, base.rewards if base else None)


def columns(row: Sequence[Shot]) -> list[tuple[Any, str, str, str]]:
    """(image or None, name, kind, caption) for each of the three columns."""
    if not row:
        return [(None, title, kind, caption(kind, title, [])) for kind, title in COLUMNS]
    base = reference(row)
    return [
        (
            enlarged(shot.image) if shot.image is not None else None,
            name_of(shot),
            shot.arm.kind,
            caption_of(shot, base),
        )
        for shot in row
    ]


def shown(row: Sequence[Shot]) -> list[Any]:
    """Updates of [image, caption] for each of the three columns."""
    updates: list[Any] = []
    for image, name, kind, words in columns(row):
        label = name.partition(":")[0]
        updates += [
            gr.Image(served(image), label=label, elem_classes=["stage", f"arm-{kind}"], alt_text=name),
            words,
        ]
    return updates


def sendable(row: Sequence[Shot]) -> list[Any]:
    """Updates of the three buttons that send a picture's scales to the desk: the base has none."""
    able = [shot.image is not None and shot.arm.kind != "base" for shot in row] or [False] * len(COLUMNS)
    return [gr.Button(interactive=each) for each in able]


def sides(row: Sequence[Shot], left: object, right: object) -> tuple[int, int] | None:
    """Which two arms are laid over one another: those that were chosen, or the first two that have a
    picture. None where there are no two."""
    pictured = [i for i, shot in enumerate(row) if shot.image is not None]
    if len(pictured) < 2:
        return None
    a, b = (int(v) if str(v).isdecimal() and int(str(v)) in pictured else None for v in (left, right))
    if a is None:
        a = next(i for i in pictured if i != b)
    if b is None:
        b = next(i for i in pictured if i != a)
    return a, b


def legend_html(words: str) -> str:
    """What a difference map shows, in words and as a strip of its colours."""
    stops = ", ".join(f"rgb{colour}" for colour in MAP)
    return (
        "<div class='legend'><div class='legend-strip' role='img' aria-label='from black, equal, over purple "
        f"and orange to pale yellow' style='background:linear-gradient(90deg, {stops})'></div>"
        f"<div class='legend-ends'><span>the same</span><span>{BRIGHTEST} levels of 255 apart, or more</span>"
        "</div><div>Absolute difference, pixel by pixel: the largest of red, green and blue. "
        f"{html.escape(words)}</div></div>"
    )


def laid_over(row: Sequence[Shot], look: object, left: object, right: object) -> list[Any]:
    """Values of: image slider, difference map, words below, left, right."""
    chosen, names, mapped = sides(row, left, right), names_of(row), look == MAPPED
    images = [row[i].image for i in chosen] if chosen else []
    if not chosen or images[0].size != images[1].size:
        ends = [gr.Dropdown(names, value=str(i)) for i in chosen or (0, len(names) - 1)] if names else []
        ends = ends or [gr.skip()] * 2
        empty = [gr.ImageSlider(None, visible=not mapped), gr.Image(None, visible=mapped)]
        return [*empty, said(ONE_ALONE), *ends]
    ends = [gr.Dropdown(names, value=str(i)) for i in chosen]
    if mapped:
        picture, words = difference(*images)
        drawn = gr.Image(served(enlarged(picture)), visible=True, alt_text=f"Difference map. {words}")
        return [gr.ImageSlider(visible=False), drawn, legend_html(words), *ends]
    pair = gr.ImageSlider(tuple(served(enlarged(image)) for image in images), visible=True)
    return [pair, gr.Image(visible=False), slider_words(row, chosen), *ends]


@dataclass(frozen=True)
class Over:
    """What the page opens with, before anything was chosen: the slider's pair, names of the arms, words."""

    pair: tuple[Any, Any] | None
    names: list[tuple[str, str]]
    words: str


def names_of(row: Sequence[Shot]) -> list[tuple[str, str]]:
    """(words, place) of each arm, for choosing two of them."""
    return [(f"{i + 1}: {name_of(s)}", str(i)) for i, s in enumerate(row)]


def laid_plain(row: Sequence[Shot]) -> Over:
    """What the page opens with, as plain values."""
    chosen = sides(row, "0", "1")
    names = names_of(row) or [(f"{i + 1}: {title}", str(i)) for i, (_, title) in enumerate(COLUMNS)]
    if chosen is None or row[chosen[0]].image.size != row[chosen[1]].image.size:
        return Over(None, names, said(ONE_ALONE))
    a, b = (enlarged(row[i].image) for i in chosen)
    return Over((a, b), names, slider_words(row, chosen))


def slider_words(row: Sequence[Shot], chosen: tuple[int, int]) -> str:
    one, two = (html.escape(name_of(row[i])) for i in chosen)
    return f"<div class='aside'>Left of the handle: {one}. Right of it: {two}.</div>"


def tiles(comparison: Comparison) -> list[tuple[Any, str]]:
    """The grid: every picture in order of prompt and seed, then arm. Empty for a single row."""
    if len(comparison.rows) < 2:
        return []
    return [
        (served(shot.image), f"{name_of(shot)} · seed {shot.ask.seed} · {shot.ask.prompt}")
        for row in comparison.rows
        for shot in row
        if shot.image is not None
    ]


def width_of(comparison: Comparison) -> int:
    """Pictures in one row of the grid."""
    return max(1, sum(shot.image is not None for shot in comparison.shots))


def means_html(comparison: Comparison) -> str:
    """The table of means over the grid; nothing for a single row."""
    if len(comparison.rows) < 2:
        return ""
    rows = means(comparison)
    rewards = list(rows[0]["rewards"]) if rows else []
    head = "".join(
        f"<th scope='col'>{html.escape(w)}</th>" for w in ("Arm", "Steps", "NFE", "Time", *rewards)
    )
    body = ""
    for row in rows:
        cells = f"<th scope='row' class='arm arm-{row['kind']}'>{html.escape(row['name'])}</th>"
        cells += f"<td>{row['steps']}</td><td>{row['nfe']}</td><td>{duration(row['seconds'])}</td>"
        for name in rewards:
            mean, interval = row["rewards"].get(name, (float("nan"), None))
            more = ""
            if interval is not None:
                # A paired interval that holds 0 says that the two are not told apart.
                told = "" if interval.verdict != "not told apart" else " class='sub'"
                distance, _, ends = interval.text(2).replace("-", "−").partition(" ")
                more = f"<div{told}>{distance}<br>{ends}</div>"
            cells += f"<td>{three_digits(mean)}{more}</td>"
        body += f"<tr>{cells}</tr>"
    count = len(comparison.rows)
    return (
        f"<div class='means'><div class='aside'>Means over {count} rows (prompt and seed). Below each mean: "
        "its distance from base with the 95 % interval, paired by row; grey where it holds 0 and the two are "
        f"not told apart.</div><div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div></div>"
    )


def thumbnails(core: Core, visitor: object) -> list[tuple[Any, str]]:
    """One picture for each comparison of the session: the calibrated one where there is one."""
    made = []
    for comparison in history_of(core, visitor):
        pictured = [s for s in comparison.shots if s.image is not None]
        best = next((s for s in pictured if s.arm.kind == "calibrated"), pictured[0] if pictured else None)
        if best is None:
            continue
        ask, count = comparison.ask, len(comparison.rows)
        rest = f" and {count - 1} more" if count > 1 else ""
        made.append((served(best.image), f"{ask.prompt} · seed {ask.seed}{rest} · {ask.steps} steps"))
    return made


def lead_html(comparison: Comparison | None) -> str:
    """The sentence over the pictures: what one sees, and why they differ."""
    return f"<div class='lead'>{MISSING_VISIT if comparison is None else SENTENCE}</div>"


def problem_html(problems: dict[str, str]) -> str:
    """What cannot be rendered, in words that a screen reader says at once."""
    words = "<br>".join(html.escape(text) for text in problems.values())
    return f"<div class='hint wrong-words' role='alert'>{words}</div>" if problems else ""


def count_words(prompts: int, seeds: int, arms: int) -> str:
    """How many pictures the next press of Render makes; nothing for a single row."""
    if prompts * seeds < 2:
        return ""
    said_prompts = f"{prompts} prompt{'s' * (prompts > 1)}"
    said_seeds = f"{seeds} seed{'s' * (seeds > 1)}"
    total = prompts * seeds * arms
    return f"<div class='aside'>{said_prompts} × {said_seeds} × {arms} arms = {total} pictures</div>"
