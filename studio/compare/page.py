"""Compare: prompts and seeds, up to three arms side by side. The page that a newcomer sees first."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from calibri.errors import CalibriError, RenderError
from studio.compare import comparison, png_settings, send
from studio.compare import view as parts
from studio.compare.comparison import find, history_of
from studio.compare.form import AGAINST, ARMS, USUAL, Form, checked, form_of, prompts_in, seeds_in
from studio.compare.layout import lay_out
from studio.core import Core
from studio.rendering import first_visit
from studio.rendering.arms import NOTHING, Choice, offered
from studio.rendering.asks import Ask, dice, word_hint
from studio.rendering.shots import Comparison
from studio.ui.elements import said
from studio.ui.errors import guard
from studio.ui.events import DIRECT, IN_ORDER, QUEUED, step_words, waiting, when_loaded, when_switched
from studio.visitors import Visitor

TITLE, PATH = "Compare", "/"
FOCUS = (
    "() => { const t = document.querySelector('#prompt textarea, #prompt input'); t.focus(); t.select(); }"
)
TYPED = 8  # fields of the form before those of the arms


def compare(core: Core, visitor: object, form: Form, **calls: Any) -> Comparison:
    """Check the form, render it, and put it first in the visitor's history. See `comparing.compare`."""
    return comparison.compare(core, visitor, checked(core, form), **calls)


def latest(core: Core, visitor: object) -> Comparison | None:
    """The comparison this visitor saw last, or that of the first visit."""
    history = history_of(core, visitor)
    return history[0] if history else first_visit.opening(core.assets)


def form_from(values: tuple[Any, ...]) -> Form:
    """The form from the components' values, in the order of `form_values`."""
    arms = values[TYPED:]
    chosen = [Choice(arms[i] or NOTHING, *map(_own, arms[i + 1 : i + 3])) for i in range(0, 3 * ARMS, 3)]
    return Form(*values[:TYPED], arms=tuple(chosen))


def _own(value: Any) -> Any:
    """What an arm has of its own; an empty field is nothing of its own."""
    return None if value in (None, "", 0) else value


def form_values(form: Form) -> list[Any]:
    """The components' values for a form."""
    first = [form.prompt, form.seed, form.steps, form.prompts, form.seeds, form.guidance]
    return [*first, form.width, form.height, *(v for c in form.arms for v in (c.what, c.steps, c.guidance))]


def form_updates(core: Core, visitor: Visitor, form: Form) -> list[Any]:
    """The same with what can be chosen as an arm by now."""
    values, kinds = form_values(form), offered(core, visitor)
    known = [what for _, what in kinds]
    for arm, at in enumerate(range(TYPED, TYPED + 3 * ARMS, 3)):
        what = values[at] if values[at] in known else USUAL[arm].what  # another backbone has other ones
        values[at] = gr.Dropdown(kinds, value=what)
    return values


def painted(made: Comparison | None, row: int) -> list[Any]:
    """One row of a comparison: values of `Page.painted`."""
    if made is None:
        return [*parts.shown([]), *parts.sendable([]), gr.Gallery(visible=False), "", ["", 0]]
    items = parts.tiles(made)
    return [
        *parts.shown(made.rows[row]),
        *parts.sendable(made.rows[row]),
        gr.Gallery(items, columns=parts.width_of(made), visible=bool(items)),
        parts.means_html(made),
        [made.id, row],
    ]


def view(made: Comparison | None, row: int, *looking: Any) -> list[Any]:
    """Everything that shows one row of a comparison: values of `Page.viewed`."""
    row = row if made and 0 <= row < len(made.rows) else 0
    return [*painted(made, row), *parts.laid_over(made.rows[row] if made else [], *looking)]


def count_of(text: str, more: str, numbers: str, *whats: str) -> str:
    """How many pictures the form asks for, as HTML; for seeds that cannot be read, why."""
    try:
        seeds = 1 + len(set(seeds_in(numbers)))
    except RenderError as error:
        return f"<div class='aside'>{html.escape(str(error))}</div>"
    prompts = len(prompts_in(text, more)) or 1
    return parts.count_words(prompts, seeds, sum(what != NOTHING for what in whats))


def build(core: Core) -> None:
    """Lay out the page inside the current Blocks."""
    first = first_visit.opening(core.assets)
    start = first.ask if first else Ask(first_visit.examples()[0], 3, 8)
    page = lay_out(core, first, start)
    visitor, looking = page.visitor, page.looking
    marked = {component.elem_id: component for component in page.fields}

    def at(visitor_id: object, key: Any) -> tuple[Comparison | None, int]:
        """The comparison on the page and its row; that of the first visit where it is not known."""
        identity, row = key if isinstance(key, list | tuple) and len(key) == 2 else ("", 0)
        made = find(core, visitor_id, identity) or first
        return made, row if made and isinstance(row, int) and 0 <= row < len(made.rows) else 0

    @guard
    def on_render(
        visitor_id: str | None, key: Any, progress: gr.Progress = gr.Progress(), *values: Any
    ) -> list[Any]:
        order = checked(core, form_from(values))
        marks = [gr.update(elem_classes=["wrong"] if name in order.problems else []) for name in marked]
        if order.problems:
            shown, said_of = painted(*at(visitor_id, key)), parts.problem_html(order.problems)
        else:
            made = comparison.compare(
                core,
                visitor_id,
                order,
                on_step=step_words(progress, "Rendering"),
                on_wait=waiting(progress),
            )
            hints = [word_hint(core, prompt) for prompt in dict.fromkeys(a.prompt for a in order.asks)]
            shown, said_of = painted(made, 0), said(" ".join(filter(None, hints)))
        return [*shown, said_of, parts.thumbnails(core, visitor_id), *marks]

    rendering: dict[str, Any] = {
        "fn": on_render,
        "inputs": [visitor, page.now, *page.fields],
        "outputs": [*page.painted, page.remark, page.history, *marked.values()],
        "concurrency_limit": 8,
        "concurrency_id": "people",
        "show_progress_on": page.images,
        "api_visibility": "private",
    }

    def setting(arms: tuple[Choice, ...]) -> Any:
        values = form_values(Form("", 0, 1, arms=arms))[TYPED:]
        return lambda: values

    rendered = [gr.on([page.run.click, page.prompt.submit], **rendering)]
    for button, preset in ((page.usual, USUAL), (page.against, AGAINST)):
        rendered.append(button.click(setting(preset), None, page.choosing, **DIRECT).then(**rendering))
    page.stop.click(lambda v: core.visitors.of(v).stop("compare"), visitor, None, **DIRECT)
    page.roll.click(dice, None, page.seed, queue=False, api_visibility="private")
    page.try_prompt.click(None, js=FOCUS)

    def on_look(visitor_id: object, key: Any, *chosen: Any) -> list[Any]:
        made, row = at(visitor_id, key)
        return parts.laid_over(made.rows[row] if made else [], *chosen)

    overlay = {**IN_ORDER, "fn": on_look, "inputs": [visitor, page.now, *looking], "outputs": page.laid}
    overlay["concurrency_id"] = "overlay"
    gr.on([page.look.input, page.left.input, page.right.input], **overlay)
    for done in rendered:  # as an event of its own: how to look may have been chosen anew while it rendered
        done.success(**overlay)

    @guard
    def on_grid(
        visitor_id: str | None, key: Any, look: str, left: str, right: str, event: gr.SelectData
    ) -> list[Any]:
        made, _ = at(visitor_id, key)
        if made is None:
            raise CalibriError("Those pictures are no longer kept.")
        return view(made, event.index // parts.width_of(made), look, left, right)

    page.grid.select(on_grid, [visitor, page.now, *looking], page.viewed, **QUEUED)

    @guard
    def on_history(
        visitor_id: str | None, look: str, left: str, right: str, event: gr.SelectData
    ) -> list[Any]:
        kept = list(history_of(core, visitor_id))
        if not 0 <= event.index < len(kept):
            raise CalibriError("That picture is no longer kept.")
        chosen = kept[event.index]
        return [
            *view(chosen, 0, look, left, right),
            *form_updates(core, core.visitors.of(visitor_id), form_of(chosen)),
        ]

    page.history.select(on_history, [visitor, *looking], [*page.viewed, *page.fields], **QUEUED)
    gr.on(
        [page.prompts.change, page.seeds.change, page.prompt.change],
        count_of,
        [page.prompt, page.prompts, page.seeds, *(column[0] for column in page.arms)],
        page.count,
        **IN_ORDER,
    )
    send.files(core, page, at)
    send.elsewhere(core, page, at)

    @guard
    def on_png(visitor_id: str | None, path: str) -> list[Any]:
        known = core.visitors.of(visitor_id)
        form, word = png_settings.settings_from(core, known, Path(path))
        told = " ".join(filter(None, (f"Settings from {Path(path).name}.", word, "Press Render.")))
        return [*form_updates(core, known, form), said(told)]

    page.from_png.upload(on_png, [visitor, page.from_png], [*page.fields, page.remark], **QUEUED)

    sent = (*page.images, page.slider, page.mapped)

    def on_load(visitor_id: str, *chosen: Any) -> list[Any]:
        history = history_of(core, visitor_id)
        last = history[0] if history else None
        form = form_of(last) if last else Form(start.prompt, start.seed, start.steps)
        shown = view(last or first, 0, *chosen)
        if last is None:  # the page came with these pictures: they are not sent twice
            shown = [gr.skip() if c in sent else v for c, v in zip(page.viewed, shown)]
        return [
            *shown,
            parts.lead_html(last or first),
            parts.thumbnails(core, visitor_id),
            *form_updates(core, core.visitors.of(visitor_id), form),
        ]

    filled = [*page.viewed, page.lead, page.history, *page.fields]
    when_loaded(visitor, on_load, looking, filled)
    when_switched(on_load, [visitor, *looking], filled)
