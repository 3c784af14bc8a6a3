"""Scales: the mixing desk. One or several vectors, their picture beside the base's, and every way to change
them."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from calibri.calibration.artifact import Calibration
from calibri.errors import ArtifactError
from studio.calibrations import read_file
from studio.core import Core
from studio.rendering import first_visit
from studio.rendering.asks import Ask, dice
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Shot, facts
from studio.scales.desk import Desk, checked, strips
from studio.scales.edits import (
    RANGE,
    added,
    blended,
    change,
    desk_of,
    file_of,
    from_text,
    kept,
    moved,
    of_member,
    opened,
    place_of,
    preview,
)
from studio.scales.layout import Page, lay_out
from studio.scales.view import SAVE_SCRIPT, beside_choices, drawn, figure_of, saved_choices
from studio.ui.elements import caption, enlarged
from studio.ui.errors import guard, was_cancelled
from studio.ui.events import DIRECT, IN_ORDER, QUEUED, step_words, waiting, when_loaded, when_ready
from studio.ui.picture_files import served

TITLE, PATH = "Scales", "/scales"


def open_saved(core: Core, visitor: object, entry_id: str | None) -> tuple[Desk, str]:
    """A saved calibration with all its members in place of the desk's."""
    return opened(core, visitor, _entry(core, entry_id))


def add_saved(core: Core, visitor: object, entry_id: str | None) -> tuple[Desk, str]:
    """The members of a saved calibration beside those of the desk."""
    found = _entry(core, entry_id)
    return added(core, visitor, found), f"added “{found.title}”"


def _entry(core: Core, entry_id: str | None) -> Calibration:
    if not entry_id:
        raise ArtifactError("Choose a saved calibration first.")
    return core.calibrations.get(entry_id).calibration


def carried(core: Core, visitor: object) -> list[Any]:
    """Prompt, seed and steps of a picture that was sent here, once; skips otherwise."""
    ask = core.visitors.of(visitor).place(SharedPlace).take_ask()
    return [gr.skip()] * 3 if ask is None else [ask.prompt, ask.seed, ask.steps]


def seen(base: Shot, mine: Shot) -> list[Any]:
    """Values of `Page.seen`."""
    kind = mine.arm.kind
    name = "Your ensemble" if kind == "ensemble" else "Your scales"
    return [
        served(enlarged(base.image)),  # type: ignore[arg-type]
        caption("base", "Base", facts(base), base.rewards),
        gr.Image(
            served(enlarged(mine.image)), elem_classes=["stage", f"arm-{kind}"], label=name, alt_text=name
        ),  # type: ignore[arg-type]
        caption(kind, name, facts(mine), mine.rewards, base.rewards),
    ]


def build(core: Core) -> None:
    """Lay out the page inside the current Blocks."""
    first = first_visit.opening(core.assets)
    page = lay_out(first.ask if first else Ask(first_visit.examples()[0], 3, 8))
    visitor, after = page.visitor, page.after

    def follow(
        edit: Callable[..., Desk | tuple[Desk, str]], by_event: bool = False, members: bool = True
    ) -> Callable[..., Iterator[list[Any]]]:
        """A handler of visitor, prompt, seed, steps, progress, inputs: it edits the desk, then renders.
        `by_event`: the edit gets what the event itself carried. `members`: whether it can change more than
        the vector in hand."""

        @guard
        def on_edit(
            visitor_id: str | None,
            p: str,
            n: float,
            s: float,
            event: gr.EventData,
            progress: gr.Progress = gr.Progress(),
            *more: Any,  # after these: Gradio puts them at their own places among the arguments
        ) -> Iterator[list[Any]]:
            made = edit(visitor_id, *more, *([event._data] if by_event else []))
            remark = made[1] if isinstance(made, tuple) else ""
            place = place_of(core, visitor_id)
            yield [*drawn(core, place, remark, members=members), *[gr.skip()] * len(page.seen)]
            calls = {"on_step": step_words(progress, "Rendering"), "on_wait": waiting(progress)}
            shown: list[Any] = [gr.skip()] * len(page.seen)
            try:
                shown = seen(*preview(core, visitor_id, p, n, s, **calls))
            except Exception as error:
                if not was_cancelled(error):
                    raise  # a newer move took over: its picture is on the way
            # Whatever comes last Gradio sends once more at the end: after a newer move's answer it must hold
            # nothing. A skipped HTML component in a closed tab would lose its figure: it is sent again.
            rest = [gr.skip()] * len(after)
            rest[after.index(page.bars)] = figure_of(core, place)
            yield [*rest, *shown]

        return on_edit

    def on(
        triggers: Any,
        edit: Callable[..., Any],
        inputs: Sequence[Any] = (),
        by_event: bool = False,
        members: bool = True,
    ) -> None:
        listen = functools.partial(gr.on, triggers) if isinstance(triggers, list) else triggers
        listen(
            follow(edit, by_event, members),
            [visitor, *page.asked, *inputs],
            [*after, *page.seen],
            trigger_mode="multiple",
            concurrency_limit=8,
            concurrency_id="people",
            show_progress_on=[page.mine_view],
            api_visibility="private",
        )

    def edited(edit: Callable[[Desk], Desk]) -> Callable[[object], Desk]:
        return lambda visitor_id: change(core, visitor_id, edit)

    tools = page.tools
    on(page.desk.release, lambda v, payload: moved(core, v, payload), by_event=True, members=False)
    render = [page.run.click, page.prompt.submit, page.seed.submit, page.steps.release, page.arrived.change]
    on(render, edited(lambda d: d), members=False)
    on(tools["undo"].click, edited(Desk.undo))
    on(tools["redo"].click, edited(Desk.redo))
    on(tools["reset"].click, edited(Desk.reset), members=False)
    on(tools["weaker"].click, edited(lambda d: d.strengthen(0.8)), members=False)
    on(tools["stronger"].click, edited(lambda d: d.strengthen(1.25)), members=False)
    on(tools["mirror"].click, edited(lambda d: d.strengthen(-1.0)), members=False)
    on(page.use_text.click, lambda v, t: from_text(core, v, t), [page.text], members=False)
    on(
        page.granularity.input,
        lambda v, g: desk_of(core, place_of(core, v), g),
        [page.granularity],
    )
    page.roll.click(dice, None, page.seed, queue=False, api_visibility="private").then(
        follow(edited(lambda d: d), members=False),
        [visitor, *page.asked],
        [*after, *page.seen],
        concurrency_id="people",
        concurrency_limit=8,
        show_progress_on=[page.mine_view],
        api_visibility="private",
    )

    # members
    on(page.tabs.input, lambda v, at: change(core, v, lambda d: d.choose(at)), [page.tabs])
    # The field is left by a click on another tab as well: its member goes with it.
    on(
        [page.weight.submit, page.weight.blur],
        lambda v, at, w: of_member(core, v, at, lambda d: d.weigh(w)),
        [page.tabs, page.weight],
    )
    on(
        page.condition.input,
        lambda v, at, c: of_member(core, v, at, lambda d: d.condition(c)),
        [page.tabs, page.condition],
    )
    on(page.add.click, lambda v: added(core, v))
    on(page.remove.click, edited(Desk.remove))

    # another calibration
    @guard
    def on_beside(visitor_id: object, choice: str | None) -> Any:
        place = place_of(core, visitor_id)
        place.beside, place.blend = choice or "", None
        return figure_of(core, place), 0

    page.beside.input(on_beside, [visitor, page.beside], [page.bars, page.share], **IN_ORDER)
    on(
        page.share.release,
        lambda v, c, x: blended(core, v, c, x),
        [page.beside, page.share],
        members=False,
    )
    on(page.open_saved.click, lambda v, entry: open_saved(core, v, entry), [page.saved])
    on(page.add_saved.click, lambda v, entry: add_saved(core, v, entry), [page.saved])
    on(page.upload.upload, lambda v, path: opened(core, v, read_file(Path(path))), [page.upload])

    def level_of(visitor_id: object) -> str:
        desk = place_of(core, visitor_id).desk
        return desk.layout.granularity if desk else "layer"

    page.vector.change(
        level_of,
        visitor,
        page.granularity,
        **DIRECT,
    )
    _files(core, page)
    _plain(core, page, on)

    def ready(visitor_id: str) -> list[Any]:
        place = place_of(core, visitor_id)
        desk = desk_of(core, place)
        choices = beside_choices(core)
        place.beside = place.beside if place.beside in [value for _, value in choices] else ""
        lists = [gr.Dropdown(saved_choices(core)), gr.Dropdown(choices, value=place.beside)]
        arrived = f"load {core.host.status.loads}"  # another one after another backbone: renders anew
        return [*drawn(core, place), desk.layout.granularity, *lists, *carried(core, visitor_id), arrived]

    when_loaded(visitor)
    lists = [page.granularity, page.saved, page.beside]
    when_ready(core.host, visitor, ready, [], [*after, *lists, *page.asked, page.arrived])


def _files(core: Core, page: Page) -> None:
    """Into the studio's store, and into a file."""

    def saving(alone: bool) -> Callable[..., list[Any]]:
        @guard
        def on_save(visitor_id: object, name: str, request: gr.Request) -> list[Any]:
            core.rights.organisers_only(core.rights.username(request))
            entry = core.calibrations.save(kept(core, visitor_id, name, alone))
            gr.Info(f"Saved as “{html.escape(entry.title)}”.", duration=4)
            return [
                gr.Dropdown(saved_choices(core), value=entry.id),
                gr.Dropdown(beside_choices(core)),
            ]

        return on_save

    for button, alone in ((page.save, False), (page.save_one, True)):
        button.click(saving(alone), [page.visitor, page.title], [page.saved, page.beside], **QUEUED)

    @guard
    def on_download(visitor_id: object, name: str) -> list[str]:
        desk = desk_of(core, place_of(core, visitor_id))
        return list(file_of(desk, core.backbone_name, name))

    named = [page.file_name, page.file_text]
    page.as_file.click(on_download, [page.visitor, page.title], named, **QUEUED).success(
        None, named, js=SAVE_SCRIPT, api_visibility="private"
    )


def _plain(core: Core, page: Page, on: Callable[..., None]) -> None:
    """The accessible alternative: one gr.Slider a scale. Sent again only when the layout changes."""

    @gr.render(
        inputs=[page.visitor, page.show_plain], triggers=[page.show_plain.change, page.granularity.change]
    )
    def plain_sliders(visitor_id: str | None, shown: bool) -> None:
        desk = place_of(core, visitor_id).desk
        if desk is None or not shown:
            return
        sliders = []
        with gr.Row(elem_id="plain-sliders"):
            for strip, value in zip(strips(desk.layout), desk.values):
                sliders.append(
                    gr.Slider(
                        *RANGE,
                        value,
                        step=0.01,
                        label=f"{strip['name']}",
                        info=strip["words"],
                        min_width=220,
                        buttons=[],
                        interactive=True,
                    )
                )
        on(
            [s.release for s in sliders],
            lambda v, *now: change(core, v, lambda d: d.set(checked(now, d.layout))),
            sliders,
            members=False,
        )
        page.vector.change(
            lambda now: now,
            page.vector,
            sliders,
            **DIRECT,
        )
