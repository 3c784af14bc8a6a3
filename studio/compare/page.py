"""Compare: prompts and seeds, up to three arms side by side. The page that a newcomer sees first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from calibri.errors import CalibriError
from studio.compare import png_settings, send, view
from studio.compare.comparison import compare, find_shown, get_history, need_shown
from studio.compare.form import AGAINST, USUAL, Form, FormError, form_of
from studio.compare.grid_page import wire_grid
from studio.compare.layout import Page, lay_out
from studio.compare.link import read_link, write_link
from studio.compare.past import draw_past, remember
from studio.core import Core
from studio.rendering import first_visit
from studio.rendering.arms import list_choices, list_lora_choices
from studio.rendering.asks import dice, unread_hint, word_hint
from studio.rendering.shots import Comparison
from studio.rendering.view import embeds_guidance, guidance_slider, steps_slider
from studio.ui.elements import show_remark
from studio.ui.errors import guard
from studio.ui.events import (
    COPY_LINK,
    DIRECT,
    IN_ORDER,
    QUEUED,
    RENDERS,
    read_address,
    take_file,
    tell_progress,
    when_loaded,
    when_switched,
)
from studio.visitors import Visitor

TITLE, PATH = "Compare", "/"
LINKED = "These settings came with a link. Press Render to see its pictures."
#: What a link asked for is on the page by now: a reload shows the page as it was left.
FORGET_LINK = """() => { if (new URLSearchParams(location.search).has('prompt'))
  history.replaceState(history.state, '', location.pathname); }"""
SEED_AT = 1  # in `Page.fields`
FOCUS = (
    "() => { const t = document.querySelector('#prompt textarea, #prompt input'); t.focus(); t.select(); }"
)


def get_latest(core: Core, visitor: object) -> Comparison | None:
    """The comparison this visitor saw last, or that of the first visit."""
    history = get_history(core, visitor)
    return history[0] if history else first_visit.open_first(core.assets)


def update_form(core: Core, visitor: Visitor, form: Form) -> list[Any]:
    """Updates of `Page.fields`, with what can be chosen as an arm by now."""
    values, choices = view.list_values(form), list_choices(core, visitor)
    values[2], values[5] = steps_slider(form.steps), guidance_slider(form.guidance)
    values[9] = gr.Number(value=form.embedded, visible=embeds_guidance(core.spec))
    known = [what for _, what in choices]
    first = len(values) - 4 * len(USUAL)  # arms have three values each, and behind all their LoRAs
    loras = list_lora_choices(core)
    for place in range(first + 3 * len(USUAL), len(values)):
        typed = values[place] if len(loras) > 1 else ""
        values[place] = gr.Dropdown(loras, value=typed, visible=len(loras) > 1, allow_custom_value=True)
    for usual, place in zip(USUAL, range(first, first + 3 * len(USUAL), 3)):
        what = values[place] if values[place] in known else usual.what  # another backbone has other ones
        values[place] = gr.Dropdown(choices, value=what)
    return values


def show_all(made: Comparison | None, row: int, *looking: Any) -> list[Any]:
    """Everything that shows one row of a comparison: values of `Page.viewed`."""
    row = row if made and 0 <= row < len(made.rows) else 0
    return [*view.show_comparison(made, row), *view.lay_over(made.rows[row] if made else [], *looking)]


def build(core: Core) -> None:
    """Lay out the page inside the current Blocks."""
    page = lay_out(core)
    _wire_render(core, page)
    _wire_choosing(core, page)
    send.wire_files(core, page)
    send.wire_sending(core, page)
    wire_grid(core, page.xy, page.visitor, page.fields)
    _wire_loading(core, page)
    page.stop.click(lambda v: core.visitors.of(v).stop("compare"), page.visitor, None, **DIRECT)
    page.try_prompt.click(None, js=FOCUS)
    _wire_link(core, page)
    gr.on(
        [page.more.prompts.change, page.more.seeds.change, page.ask.prompt.change],
        view.write_count,
        [page.ask.prompt, page.more.prompts, page.more.seeds, *(column.what for column in page.columns)],
        page.more.count,
        **IN_ORDER,
    )


def _wire_render(core: Core, page: Page) -> None:
    """A press of Render, and the two pictures over one another that follow."""
    fields = page.fields

    @guard
    def on_render(
        visitor_id: str | None, key: Any, fresh: bool, progress: gr.Progress = gr.Progress(), *values: Any
    ) -> list[Any]:
        problems: dict[str, str] = {}
        form = view.read_values(values)
        if fresh:
            form = replace(form, seed=str(dice()))
        try:
            made = compare(core, visitor_id, form, **tell_progress(progress))
        except FormError as error:
            problems = error.problems
            shown = view.show_comparison(*find_shown(core, page.first, visitor_id, key))
            words = view.write_problems(problems)
        else:
            shown = view.show_comparison(made, 0)
            prompts = [row[0].ask.prompt for row in made.rows]
            hints = word_hint(made.made_on["backbone"], *prompts), unread_hint(core.host.backbone, *prompts)
            hint = " ".join(filter(None, hints))
            words = show_remark(hint)
        marks = [gr.update(elem_classes=["wrong"] if field.elem_id in problems else []) for field in fields]
        if fresh and not problems:
            marks[SEED_AT] |= {"value": form.seed}
        return [*shown, words, view.list_thumbnails(core, visitor_id), *marks]

    def on_look(visitor_id: object, key: Any, *looking: Any) -> list[Any]:
        made, row = find_shown(core, page.first, visitor_id, key)
        return view.lay_over(made.rows[row] if made else [], *looking)

    rendering: dict[str, Any] = {
        "fn": on_render,
        "inputs": [page.visitor, page.now, page.ask.fresh, *fields],
        "outputs": [*page.painted, page.remark, page.history, *fields],
        "show_progress_on": page.images,
        **RENDERS,
    }
    overlay = {
        **IN_ORDER,
        "fn": on_look,
        "inputs": [page.visitor, page.now, *page.looking],
        "outputs": page.laid,
        "concurrency_id": "overlay",
    }
    rendered = [gr.on([page.ask.run.click, page.ask.prompt.submit], **rendering)]
    rolled = page.ask.roll.click(dice, None, page.ask.seed, queue=False, api_visibility="private")
    rendered.append(rolled.then(**rendering))
    for button, arms in ((page.presets.usual, USUAL), (page.presets.against, AGAINST)):
        values = view.list_choice_values(arms)
        rendered.append(
            button.click(lambda values=values: values, None, page.choosing, **DIRECT).then(**rendering)
        )
    gr.on([page.over.look.input, page.over.left.input, page.over.right.input], **overlay)

    def on_remember(visitor_id: object, kept: object) -> list[Any]:
        newest = next(iter(get_history(core, visitor_id)), None)
        now = remember(kept, dict.fromkeys(row[0].ask.prompt for row in newest.rows) if newest else ())
        return [now, draw_past(now)]

    past = [page.kept, page.past]
    for done in rendered:  # as an event of its own: how to look may have been chosen anew while it rendered
        done.success(**overlay)
        done.success(on_remember, [page.visitor, page.kept], past, **DIRECT)
        done.success(None, js=FORGET_LINK, api_visibility="private")


def _wire_choosing(core: Core, page: Page) -> None:
    """Pictures that were rendered before: a row of the grid, one of the session, the settings of a PNG."""

    @guard
    def on_grid(
        visitor_id: str | None, key: Any, look: str, left: str, right: str, event: gr.SelectData
    ) -> list[Any]:
        made, _ = need_shown(core, page.first, visitor_id, key)
        return show_all(made, event.index // view.count_columns(made), look, left, right)

    @guard
    def on_history(
        visitor_id: str | None, look: str, left: str, right: str, event: gr.SelectData
    ) -> list[Any]:
        history = list(get_history(core, visitor_id))
        if not 0 <= event.index < len(history):
            raise CalibriError("This picture is no longer kept. Render it again.")
        made = history[event.index]
        fields = update_form(core, core.visitors.of(visitor_id), form_of(made))
        return [*show_all(made, 0, look, left, right), *fields]

    @guard
    def on_png(visitor_id: str | None, path: str) -> list[Any]:
        known, file = core.visitors.of(visitor_id), take_file(path)
        form, note = png_settings.read_form(core, known, file)
        words = " ".join(filter(None, (f"Settings from {file.name}.", note, "Press Render.")))
        return [*update_form(core, known, form), show_remark(words)]

    inputs = [page.visitor, page.now, *page.looking]
    page.grid.select(on_grid, inputs, page.viewed, **QUEUED)
    page.history.select(on_history, [page.visitor, *page.looking], [*page.viewed, *page.fields], **QUEUED)
    from_png = page.presets.from_png
    from_png.upload(on_png, [page.visitor, from_png], [*page.fields, page.remark], **QUEUED)


def _wire_link(core: Core, page: Page) -> None:
    """The link to what is shown."""

    @guard
    def on_link(visitor_id: str | None, shown: Any) -> str:
        made, _ = need_shown(core, page.first, visitor_id, shown)
        return write_link(core, made)

    page.copy.click(on_link, [page.visitor, page.now], page.link, **QUEUED).success(
        None, page.link, None, js=COPY_LINK, api_visibility="private"
    )


def _open_form(core: Core, last: Comparison | None) -> Form:
    """The form of the visitor's last comparison, or what is usual; without settings of another backbone."""
    usual = first_visit.usual_ask(core)
    if last is None:
        return Form(usual.prompt, usual.seed, usual.steps, guidance=usual.guidance)
    form = form_of(last)
    if last.made_on.get("backbone", core.backbone_name) == core.backbone_name:
        return form
    arms = tuple(replace(arm, steps=None, guidance=None, loras="") for arm in form.arms)
    own = {"width": None, "height": None, "embedded": None}
    return replace(form, steps=usual.steps, guidance=usual.guidance, arms=arms, **own)


def _wire_loading(core: Core, page: Page) -> None:
    """What the page is filled with when it opens, and when another backbone was loaded."""
    sent_before = (*page.images, page.over.slider, page.over.mapped)

    def fill_page(visitor_id: str, kept: object, *looking: Any, address: dict[str, str]) -> list[Any]:
        known = core.visitors.of(visitor_id)
        last = next(iter(get_history(core, visitor_id)), None)
        form, label = _open_form(core, last), "" if last else first_visit.label_first(core)
        try:
            linked = read_link(core, known, address)
            words = show_remark(LINKED) if linked else ""
        except FormError as error:
            linked, words = None, view.write_problems(error.problems)
        shown = show_all(last or page.first, 0, *looking)
        if last is None:  # the page came with these pictures: they are not sent twice
            shown = [gr.skip() if part in sent_before else v for part, v in zip(page.viewed, shown)]
        return [
            *shown,
            view.write_lead(last or page.first, label),
            words,
            view.list_thumbnails(core, visitor_id),
            gr.Dataset(samples=[[prompt] for prompt in first_visit.list_examples(core.backbone_name)]),
            draw_past(kept),
            *update_form(core, known, linked or form),
        ]

    def on_load(visitor_id: str, kept: object, *looking: Any) -> list[Any]:
        return fill_page(visitor_id, kept, *looking, address=read_address())

    def on_switch(visitor_id: str, kept: object, *looking: Any) -> list[Any]:
        return fill_page(visitor_id, kept, *looking, address={})

    inputs = [page.kept, *page.looking]
    outputs = [*page.viewed, page.lead, page.remark, page.history, page.examples, page.past, *page.fields]
    when_loaded(page.visitor, on_load, inputs, outputs)
    when_switched(on_switch, [page.visitor, *inputs], outputs)
