"""Scales: the mixing desk. Vectors, their picture beside the base's, and every way to change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

import gradio as gr
from markupsafe import escape

from calibri.calibration.guidance import PRESETS
from calibri.errors import RenderCancelled
from studio.calibrations import read_file
from studio.core import Core
from studio.rendering import first_visit
from studio.rendering.asks import Ask, dice
from studio.rendering.places import SharedPlace
from studio.rendering.view import steps_slider
from studio.scales import edits
from studio.scales.composing import put_on_desk
from studio.scales.desk import Desk, check_scales, list_strips
from studio.scales.layout import Page, lay_out
from studio.scales.view import (
    SAVE_SCRIPT,
    draw_bars,
    list_others,
    list_saved,
    show_desk,
    show_pictures,
    show_preset,
)
from studio.ui.elements import offers
from studio.ui.errors import guard
from studio.ui.events import (
    DIRECT,
    IN_ORDER,
    QUEUED,
    RENDERS,
    take_file,
    tell_progress,
    when_loaded,
    when_ready,
)
from studio.visitors import Visitors

TITLE, PATH = "Scales", "/scales"

#: Takes the visitor's id and the values of its inputs. Returns the desk, or (desk, remark).
Edit = Callable[..., Desk | tuple[Desk, str]]


def build(core: Core) -> None:
    """Lay out the page inside the current Blocks."""
    page = lay_out(first_visit.usual_ask(core))
    wiring = Wiring(core, page)
    _wire_vector(wiring)
    _wire_members(wiring)
    _wire_guides(wiring)
    _wire_others(wiring)
    _wire_files(core, page)
    _wire_plain_sliders(wiring)
    _wire_loading(core, page)


class Wiring:
    """Connects edits of the desk with what triggers them: each is followed by a render."""

    def __init__(self, core: Core, page: Page) -> None:
        self.core, self.page = core, page

    def follow(
        self, edit: Edit, *, by_event: bool = False, members: bool = True
    ) -> Callable[..., Iterator[list[Any]]]:
        """A handler of visitor, prompt, seed, steps, inputs: it edits the desk, then renders. `by_event`: the
        edit gets what the event carried. `members`: whether it can change more than the vector in hand."""
        core, page = self.core, self.page

        @guard
        def on_edit(
            visitor_id: str | None,
            prompt: str,
            seed: str,
            steps: float,
            event: gr.EventData,
            progress: gr.Progress = gr.Progress(),
            *inputs: Any,  # last: Gradio puts event and progress at their own places among the arguments
        ) -> Iterator[list[Any]]:
            Visitors.check_id(visitor_id)
            made = edit(visitor_id, *inputs, *([event._data] if by_event else []))
            remark = made[1] if isinstance(made, tuple) else ""
            place = edits.get_place(core, visitor_id)
            yield [*show_desk(core, place, remark, members=members), *[gr.skip()] * len(page.pictures)]
            shown: list[Any] = [gr.skip()] * len(page.pictures)
            try:
                reports = tell_progress(progress)
                shown = show_pictures(*edits.preview(core, visitor_id, prompt, seed, steps, **reports))
            except RenderCancelled:
                pass  # a newer move took over: its picture is on the way
            # Gradio sends the last answer once more at the end, after a newer move's answer: it must hold
            # nothing. A skipped HTML component in a closed tab would lose its figure: it is sent again.
            rest = [gr.skip()] * len(page.after)
            rest[page.after.index(page.side.bars)] = draw_bars(core, place)
            yield [*rest, *shown]

        return on_edit

    def on(self, triggers: Any, edit: Edit, inputs: Sequence[Any] = (), **how: bool) -> None:
        """Call `edit(visitor_id, *inputs)` for one trigger or a list of them. `how`: as in `follow`."""
        page = self.page
        listen = partial(gr.on, triggers) if isinstance(triggers, list) else triggers
        listen(
            self.follow(edit, **how),
            [page.visitor, *page.asked, *inputs],
            [*page.after, *page.pictures],
            show_progress_on=[page.pictures.mine],
            **RENDERS,
        )

    def bind(self, function: Callable[..., Any]) -> Edit:
        """A function of edits.py as an edit."""
        return partial(function, self.core)

    def bind_change(self, edit: Callable[[Desk], Desk]) -> Edit:
        """A change of the desk as an edit."""
        return lambda visitor_id: edits.change(self.core, visitor_id, edit)


def _wire_vector(wiring: Wiring) -> None:
    """The sliders, the tools below them, the text, and what asks for another picture."""
    page, on, change = wiring.page, wiring.on, wiring.bind_change
    ask, tools = page.ask, page.tools
    stay = change(lambda desk: desk)
    on(page.desk.release, wiring.bind(edits.take_move), by_event=True, members=False)
    render = [
        ask.run.click,
        ask.prompt.submit,
        ask.seed.submit,
        ask.steps.release,
        page.signals.arrived.change,
    ]
    on(render, stay, members=False)
    ask.roll.click(dice, None, ask.seed, queue=False, api_visibility="private").then(
        wiring.follow(stay, members=False),
        [page.visitor, *page.asked],
        [*page.after, *page.pictures],
        show_progress_on=[page.pictures.mine],
        **RENDERS,
    )
    on(page.draft.click, wiring.bind(edits.discard_draft))
    on(tools["undo"].click, change(Desk.undo))
    on(tools["redo"].click, change(Desk.redo))
    on(tools["reset"].click, change(Desk.reset), members=False)
    for name, factor in (("weaker", 0.8), ("stronger", 1.25), ("mirror", -1.0)):
        on(tools[name].click, change(methodcaller("strengthen", factor)), members=False)
    on(page.side.use_text.click, wiring.bind(edits.set_text), [page.side.text], members=False)
    on(page.granularity.input, wiring.bind(edits.set_granularity), [page.granularity])

    def find_level(visitor_id: object) -> str:
        desk = edits.get_place(wiring.core, visitor_id).desk
        return desk.layout.granularity if desk else "layer"

    page.signals.vector.change(find_level, page.visitor, page.granularity, **DIRECT)


def _wire_members(wiring: Wiring) -> None:
    page, on = wiring.page, wiring.on

    def weigh(visitor_id: object, at: object, weight: object) -> Desk:
        return edits.change_member(wiring.core, visitor_id, at, lambda desk: desk.weigh(weight))

    def set_condition(visitor_id: object, at: object, condition: object) -> Desk:
        return edits.change_member(wiring.core, visitor_id, at, lambda desk: desk.condition(condition))

    on(page.members.tabs.input, wiring.bind(edits.choose_member), [page.members.tabs])
    # A click on another tab leaves the field too, so the field's own member comes along.
    on(
        [page.members.weight.submit, page.members.weight.blur],
        weigh,
        [page.members.tabs, page.members.weight],
    )
    on(page.members.condition.input, set_condition, [page.members.tabs, page.members.condition])

    def place(visitor_id: object, at: object, start: object, stop: object) -> Desk:
        return edits.change_member(wiring.core, visitor_id, at, lambda desk: desk.place(start, stop))

    def balance(visitor_id: object, at: object, balanced: object) -> Desk:
        return edits.change_member(wiring.core, visitor_id, at, lambda desk: desk.balance(balanced))

    members = page.members
    ends = [event for field in (members.start, members.stop) for event in (field.submit, field.blur)]
    on(ends, place, [members.tabs, members.start, members.stop])
    on(members.balanced.input, balance, [members.tabs, members.balanced])
    on(page.members.add.click, wiring.bind(edits.add_member))
    on(page.members.remove.click, wiring.bind_change(Desk.remove))


def _wire_guides(wiring: Wiring) -> None:
    """Presets of guidance: a choice fills the fields with what is usual."""
    guides = wiring.page.guides

    @guard
    def on_preset(preset: object) -> list[Any]:
        usual = show_preset(next((name for name in PRESETS if name == preset), "cfg"))
        return [gr.Textbox(**usual.of), usual.strength, usual.start, usual.stop]

    guides.preset.input(
        on_preset, guides.preset, [guides.of, guides.strength, guides.start, guides.stop], **IN_ORDER
    )
    typed = [guides.preset, guides.of, guides.strength, guides.start, guides.stop]
    wiring.on(guides.add.click, wiring.bind(edits.add_guide), [*typed, wiring.page.ask.steps])


def _wire_others(wiring: Wiring) -> None:
    """Another calibration beside the desk, blended with it, or in its place."""
    core, page, on = wiring.core, wiring.page, wiring.on

    @guard
    def on_beside(visitor_id: object, choice: str | None) -> Any:
        place = edits.get_place(core, visitor_id)
        place.beside, place.blend = choice or "", None
        return draw_bars(core, place), 0

    def open_file(visitor_id: object, path: str) -> tuple[Desk, str]:
        return edits.open_calibration(core, visitor_id, read_file(take_file(path), core.host.backbone))

    page.side.beside.input(
        on_beside, [page.visitor, page.side.beside], [page.side.bars, page.side.share], **IN_ORDER
    )
    on(page.side.share.release, wiring.bind(edits.blend), [page.side.beside, page.side.share], members=False)
    on(page.side.open_saved.click, wiring.bind(edits.open_saved), [page.side.saved])
    on(page.side.add_saved.click, wiring.bind(edits.add_saved), [page.side.saved])
    on(page.side.upload.upload, open_file, [page.side.upload])
    composer = page.side.composer
    on(composer.run.click, wiring.bind(put_on_desk), composer.asked)


def _wire_files(core: Core, page: Page) -> None:
    """Into the studio's store, and into a file."""

    @guard
    def on_save(visitor_id: object, name: str, request: gr.Request) -> list[Any]:
        return save(visitor_id, name, request, alone=False)

    @guard
    def on_save_one(visitor_id: object, name: str, request: gr.Request) -> list[Any]:
        return save(visitor_id, name, request, alone=True)

    def save(visitor_id: object, name: str, request: gr.Request, alone: bool) -> list[Any]:
        core.rights.organisers_only(request)
        entry = core.calibrations.save(edits.make_calibration(core, visitor_id, name, alone))
        gr.Info(escape(f"Saved as “{entry.title}”."), duration=4)
        saved = list_saved(core)
        return [gr.Dropdown(saved, value=entry.id), gr.Dropdown(list_others(core)), gr.Dropdown(saved)]

    @guard
    def on_download(visitor_id: object, name: str) -> list[str]:
        desk = edits.get_desk(core, edits.get_place(core, visitor_id))
        return list(edits.write_file(desk, core.backbone_name, name))

    inputs = [page.visitor, page.side.title]
    lists = [page.side.saved, page.side.beside, page.side.composer.parts]
    page.side.save.click(on_save, inputs, lists, **QUEUED)
    page.side.save_one.click(on_save_one, inputs, lists, **QUEUED)
    named = [*page.signals.file]
    page.side.as_file.click(on_download, inputs, named, **QUEUED).success(
        None, named, js=SAVE_SCRIPT, api_visibility="private"
    )


def _wire_plain_sliders(wiring: Wiring) -> None:
    """The accessible alternative: one gr.Slider a scale. Sent again only when the layout changes."""
    core, page = wiring.core, wiring.page

    def set_values(visitor_id: object, *values: object) -> Desk:
        return edits.change(core, visitor_id, lambda desk: desk.set(check_scales(values, desk.layout)))

    @gr.render(
        inputs=[page.visitor, page.side.show_plain],
        triggers=[page.side.show_plain.change, page.granularity.change],
    )
    def lay_out_sliders(visitor_id: str | None, wanted: bool) -> None:
        desk = edits.get_place(core, visitor_id).desk
        if desk is None or not wanted:
            return
        shared: dict[str, Any] = {"step": 0.01, "min_width": 220, "buttons": [], "interactive": True}
        with gr.Row(elem_id="plain-sliders"):
            sliders = [
                gr.Slider(*edits.RANGE, value, label=strip["name"], info=strip["words"], **shared)
                for strip, value in zip(list_strips(desk.layout), desk.values)
            ]
        wiring.on([slider.release for slider in sliders], set_values, sliders, members=False)
        page.signals.vector.change(lambda values: values, page.signals.vector, sliders, **DIRECT)


def _wire_loading(core: Core, page: Page) -> None:
    suited = gr.State(list_asked(first_visit.usual_ask(core)))  # what the page held before anybody typed

    def on_ready(visitor_id: str, held: list[Any], parts: object, *asked: Any) -> list[Any]:
        place = edits.get_place(core, visitor_id)
        desk = edits.get_desk(core, place)
        others = list_others(core)
        place.beside = place.beside if place.beside in [value for _, value in others] else ""
        sent = core.visitors.place(visitor_id, SharedPlace).take_ask()  # with a picture, from Compare
        usual = list_asked(first_visit.usual_ask(core))
        fresh = [new if now == old else gr.skip() for new, now, old in zip(usual, asked, held, strict=True)]
        return [
            *show_desk(core, place),
            desk.layout.granularity,
            gr.Dropdown(list_saved(core)),
            gr.Dropdown(others, value=place.beside),
            offers(list_saved(core), parts, []),
            *show_asked(fresh if sent is None else list_asked(sent)),
            usual,
            f"load {core.host.status.loads}",  # another one after another backbone: renders anew
        ]

    when_loaded(page.visitor)
    parts = page.side.composer.parts
    lists = [page.granularity, page.side.saved, page.side.beside, parts]
    outputs = [*page.after, *lists, *page.asked, suited, page.signals.arrived]
    when_ready(core.host, page.visitor, on_ready, [suited, parts, *page.asked], outputs)


def list_asked(ask: Ask) -> list[Any]:
    """Values of `Page.asked`."""
    return [ask.prompt, str(ask.seed), ask.steps]


def show_asked(values: list[Any]) -> list[Any]:
    """The same as updates: a slider that ends below its new value would refuse it at the next press."""
    return [*values[:2], steps_slider(values[2]) if isinstance(values[2], int) else values[2]]
