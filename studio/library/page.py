"""Library: every calibration of this studio, kept, renamed, moved in and out, and two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from calibri.errors import ArtifactError
from studio.calibrations import Entry, file_of
from studio.compare.comparison import compare
from studio.compare.form import Form, checked
from studio.core import Core
from studio.library import view
from studio.library.thumbnails import PROMPT, SEED, Thumbnails
from studio.rendering.arms import NOTHING, WORDS, Arm, Choice
from studio.rendering.asks import LARGEST_SEED, MOST_STEPS, Ask
from studio.rendering.shots import Shot, facts, kept_shots, shoot
from studio.scales.edits import opened
from studio.scales.page import SAVE_SCRIPT
from studio.ui.elements import caption, chart, enlarged, offers, picture, read_beside, said
from studio.ui.errors import guard, was_cancelled
from studio.ui.events import (
    DIRECT,
    IN_ORDER,
    QUEUED,
    step_words,
    visitor_state,
    waiting,
    when_loaded,
    when_ready,
)
from studio.ui.picture_files import served

TITLE, PATH = "Library", "/library"
BASE = "base"
LEAD = "The calibrations of this studio. Choose one to see what it does, beside the base or another one."


def go_to(place: str) -> str:
    return f"() => {{ window.location.assign('{place}'); }}"


# what the page shows


def found(core: Core, entry_id: object) -> Entry | None:
    """The calibration of this id, or None where there is none (any more)."""
    return next((e for e in core.calibrations.entries() if e.id == entry_id), None)


def needed(core: Core, entry_id: object) -> Entry:
    """The same, or an ArtifactError in words."""
    if not entry_id:
        raise ArtifactError("Choose a calibration first.")
    return core.calibrations.get(str(entry_id))


def listed(
    core: Core, thumbnails: Thumbnails | None, selected: object
) -> tuple[str, list[tuple[str, str]], list[tuple[str, str]]]:
    """Cards, and as (words, id) what can stand beside and what lies in the trash."""
    entries = core.calibrations.entries()
    others = [("Base: all scales 1.00", BASE), *((e.title, e.id) for e in entries)]
    trash = [(f"{e.title} ({view.moment(e.saved)})", e.id) for e in core.calibrations.trash()]
    return view.cards(entries, thumbnails, selected), others, trash


def drawn(core: Core, thumbnails: Thumbnails | None, selected: object, beside: object) -> list[Any]:
    """Cards, what can stand beside, and the trash."""
    cards, others, trash = listed(core, thumbnails, selected)
    other = beside if beside in [choice for _, choice in others] else BASE
    return [cards, gr.Dropdown(others, value=other), gr.Dropdown(trash, value=None)]


def redrawn(
    core: Core, thumbnails: Thumbnails | None, selected: object, beside: object, deleted: object
) -> list[Any]:
    """The same while people look and choose."""
    cards, others, trash = listed(core, thumbnails, selected)
    return [cards, offers(others, beside, BASE), offers(trash, deleted)]


def described(core: Core, selected: object, beside: object) -> list[Any]:
    """Title, facts, chart and the chart's remark for the chosen calibration."""
    entry = found(core, selected)
    if entry is None:
        gone = f"There is no saved calibration {selected!r} (any more)." if selected else ""
        return ["", said(gone) or view.details(None), None, ""]
    other = found(core, beside)
    beside_it = other.calibration if other is not None else None
    figure, remark = view.vectors(entry.calibration, beside_it, core.host.backbone)
    return [entry.title, view.details(entry), figure, said(remark)]


def arm_of(core: Core, entry: Entry | None) -> Arm:
    """The base for None; a calibration of another backbone than the loaded one is missing, in words."""
    if entry is None:
        return Arm("base", "Base")
    made = entry.calibration
    loaded = core.backbone_name
    kind: Any = "ensemble" if made.is_ensemble else "calibrated"
    if made.backbone and made.backbone != loaded:
        words = f"This one is for {made.backbone}, but {loaded or 'no backbone'} is loaded."
        return Arm(kind, entry.title, missing=words)
    return Arm(kind, entry.title, made)


def pair(
    core: Core,
    visitor: object,
    selected: object,
    beside: object,
    prompt: object,
    seed: object,
    steps: object,
    **calls: Any,
) -> list[Shot]:
    """The chosen calibration and what stands beside it, on one prompt and seed. An older wish of the visitor
    is called off. Raises ArtifactError where one of them is gone."""
    ask = Ask.checked(prompt, seed, steps)
    cancelled = core.visitors.of(visitor).begin("library")
    arms = [arm_of(core, needed(core, selected))]
    arms.append(arm_of(core, None if beside in (BASE, None, "") else needed(core, beside)))
    usual = core.host.wait_ready(cancel=cancelled).spec.steps
    if (ask.prompt, ask.seed, ask.steps) == (PROMPT, SEED, usual):
        return kept_shots(core, [(arm, ask) for arm in arms], cancel=cancelled, **calls)
    return shoot(core, arms, ask, cancel=cancelled, **calls)


def shown(shots: Sequence[Shot]) -> list[Any]:
    """[picture, caption] for both. Rewards of the second are the reference where it is the base."""
    parts: list[Any] = []
    base = next((s for s in shots if s.arm.kind == "base"), None)
    for shot in shots:
        image = served(enlarged(shot.image)) if shot.image is not None else None
        classes = ["stage", f"arm-{shot.arm.kind}"]
        parts += [
            gr.Image(value=image, label=WORDS[shot.arm.kind], elem_classes=classes),
            caption(
                shot.arm.kind,
                shot.arm.title,
                facts(shot),
                shot.rewards,
                base.rewards if base is not None else None,
                note=shot.arm.missing,
            ),
        ]
    return parts


# the page


def build(core: Core, thumbnails: Thumbnails | None) -> None:
    """Lay out the page inside the current Blocks. `thumbnails`: None where nothing runs in the background."""
    store, visitor = core.calibrations, visitor_state()
    with gr.Row(equal_height=True):
        gr.HTML(
            f"<style>{read_beside(__file__, 'library.css')}</style><div class='lead'>{LEAD}</div>",
            elem_id="lead",
            min_width=300,
        )
        undo = gr.Button("Undo", visible=False, scale=0, min_width=200, elem_id="library-undo")
        upload = gr.UploadButton(
            "Import files", file_types=[".json"], file_count="multiple", scale=0, min_width=130,
            elem_id="library-import",
        )  # fmt: skip
    told = gr.HTML("", elem_id="library-told")
    cards = gr.HTML(
        view.cards(store.entries(), thumbnails),
        js_on_load=read_beside(__file__, "library.js"),
        apply_default_css=False,
        elem_id="library-cards",
    )
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            about = gr.HTML(view.details(None), elem_id="library-about")
        with gr.Column(scale=2, min_width=300):
            with gr.Row(equal_height=True):
                title = gr.Textbox(
                    label="Title", max_lines=1, scale=3, min_width=180, elem_id="library-title"
                )
                rename = gr.Button("Rename", scale=0, min_width=90, elem_id="library-rename")
            with gr.Row():
                scales = gr.Button("Open in Scales", min_width=120, elem_id="library-open")
                against = gr.Button("Compare with base", min_width=140, elem_id="library-compare")
            with gr.Row():
                copy = gr.Button("Duplicate", size="sm", min_width=80, elem_id="library-duplicate")
                export = gr.Button("Export", size="sm", min_width=80, elem_id="library-export")
                delete = gr.Button("Delete", size="sm", min_width=80, elem_id="library-delete")
    with gr.Row(equal_height=True):
        beside = gr.Dropdown(
            [("Base: all scales 1.00", BASE)], value=BASE, label="Beside it", scale=3, min_width=200,
            elem_id="library-beside",
        )  # fmt: skip
        prompt = gr.Textbox(PROMPT, label="Prompt", max_lines=2, scale=5, min_width=260, elem_id="prompt")
        seed = gr.Number(
            SEED, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=90, elem_id="seed"
        )
        steps = gr.Slider(1, MOST_STEPS, 8, step=1, label="Steps", scale=2, min_width=150, elem_id="steps")
        run = gr.Button(
            "Render",
            variant="primary",
            scale=0,
            min_width=100,
            elem_id="render",
            elem_classes="primary-action",
        )
    with gr.Row():
        seen: list[Any] = []
        for side, arm, label in (("left", "calibrated", "The chosen one"), ("right", "base", "Beside it")):
            with gr.Column(min_width=300):
                seen.append(picture(arm, elem_id=f"library-{side}", label=label))
                seen.append(gr.HTML(caption(arm, label, []), elem_id=f"library-{side}-words"))
        with gr.Column(min_width=320):
            bars = chart(elem_id="library-bars", height=230)
            note = gr.HTML("", elem_id="library-note")
    with gr.Accordion("Trash", open=False), gr.Row(equal_height=True):
        trash = gr.Dropdown([], label="Deleted calibrations", scale=4, elem_id="library-trash")
        restore = gr.Button("Restore", scale=0, min_width=100, elem_id="library-restore")

    selected, gone, pulse = (gr.Textbox("", visible="hidden") for _ in range(3))
    file_name, file_text, go = (gr.Textbox("", visible="hidden") for _ in range(3))
    asked = [visitor, selected, beside, prompt, seed, steps]
    kept, facts_of = [cards, beside, trash], [title, about, bars, note]

    # looking

    def tick() -> str:
        if thumbnails is not None:
            thumbnails.want()
        drawn_so_far = thumbnails.revision if thumbnails is not None else 0
        return f"{store.revision}:{drawn_so_far}:{core.host.status.phase}:{core.backbone_name}"

    @guard
    def on_card(event: gr.EventData) -> str:
        chosen = event._data.get("id") if isinstance(event._data, dict) else None
        return needed(core, chosen).id

    @guard
    def on_pair(
        visitor_id: object,
        entry_id: str,
        other: str,
        text: str,
        number: float,
        count: float,
        progress: gr.Progress = gr.Progress(),
    ) -> Iterator[list[Any]]:
        if not entry_id:
            yield [None, caption("calibrated", "", []), None, caption("base", "", [])]
            return
        calls = {"on_step": step_words(progress, "Rendering"), "on_wait": waiting(progress)}
        try:
            yield shown(pair(core, visitor_id, entry_id, other, text, number, count, **calls))
        except Exception as error:
            if not was_cancelled(error):
                raise  # a newer choice took over: its pictures are on the way
            yield [gr.skip()] * len(seen)  # without any answer Gradio would empty them

    rendering: dict[str, Any] = {
        "fn": on_pair,
        "inputs": asked,
        "outputs": seen,
        "trigger_mode": "multiple",  # the newest takes over
        "concurrency_limit": 8,
        "concurrency_id": "people",
        "show_progress_on": [seen[0]],
        "api_visibility": "private",
    }
    gr.Timer(1.5).tick(tick, None, pulse, **DIRECT)
    pulse.change(lambda *now: redrawn(core, thumbnails, *now), [selected, beside, trash], kept, **DIRECT)
    # a click brings its card with it: none may be dropped, and `always_last` would bring the first one twice
    cards.select(on_card, None, selected, **{**IN_ORDER, "trigger_mode": "multiple"})
    for chosen in (selected.change, beside.input):
        chosen(lambda s, b: described(core, s, b), [selected, beside], facts_of, **IN_ORDER).then(**rendering)
    gr.on([run.click, prompt.submit, seed.submit, steps.release], **rendering)

    # changing

    def changed(entry_id: str, other: object, words: str = "", undone: str = "") -> list[Any]:
        """The outputs of every change. `undone`: what Undo takes and the title, with | between."""
        text = f"Undo: bring “{undone.partition('|')[2]}” back" if undone else "Undo"
        return [
            entry_id,
            said(words),
            gr.Button(text, visible=bool(undone)),
            undone.partition("|")[0],
            *drawn(core, thumbnails, entry_id, other),
            *described(core, entry_id, other),
        ]

    outputs = [selected, told, undo, gone, *kept, *facts_of]

    def allowed(request: gr.Request) -> None:
        core.rights.organisers_only(core.rights.username(request))

    @guard
    def on_rename(entry_id: str, other: str, name: str, request: gr.Request) -> list[Any]:
        allowed(request)
        before = needed(core, entry_id).title
        entry = store.rename(entry_id, name)
        return changed(entry.id, other, f"“{before}” is called “{entry.title}” now.")

    @guard
    def on_copy(entry_id: str, other: str, request: gr.Request) -> list[Any]:
        allowed(request)
        entry = store.duplicate(needed(core, entry_id).id)
        return changed(entry.id, other, f"Duplicated as “{entry.title}”.")

    @guard
    def on_delete(entry_id: str, other: str, request: gr.Request) -> list[Any]:
        allowed(request)
        entry = needed(core, entry_id)
        trash_id = store.delete(entry.id)
        words = f"“{entry.title}” is in the trash."
        return changed("", BASE if other == entry_id else other, words, f"{trash_id}|{entry.title}")

    @guard
    def on_restore(trash_id: str | None, other: str, request: gr.Request) -> list[Any]:
        allowed(request)
        if not trash_id:
            raise ArtifactError("Choose a deleted calibration first.")
        entry = store.restore(trash_id)
        return changed(entry.id, other, f"“{entry.title}” is back.")

    @guard
    def on_import(paths: list[str] | None, entry_id: str, other: str, request: gr.Request) -> list[Any]:
        allowed(request)
        came, refused = view.take_in(store, paths or [])
        last = came[-1].id if came else entry_id
        return changed(last, other, view.import_words(came, refused))

    gr.on([rename.click, title.submit], on_rename, [selected, beside, title], outputs, **QUEUED)
    copy.click(on_copy, [selected, beside], outputs, **QUEUED)
    delete.click(on_delete, [selected, beside], outputs, **QUEUED)
    undo.click(on_restore, [gone, beside], outputs, **QUEUED)
    restore.click(on_restore, [trash, beside], outputs, **QUEUED)
    upload.upload(on_import, [upload, selected, beside], outputs, **QUEUED)

    # going on from here

    @guard
    def on_export(entry_id: str) -> list[str]:
        return list(file_of(needed(core, entry_id)))

    @guard
    def on_open(visitor_id: object, entry_id: str) -> str:
        entry = needed(core, entry_id)
        opened(core, visitor_id, entry.calibration)
        return entry.id

    @guard
    def on_compare(
        visitor_id: object,
        entry_id: str,
        text: str,
        number: float,
        count: float,
        progress: gr.Progress = gr.Progress(),
    ) -> str:
        entry = needed(core, entry_id)
        arms = (Choice("base"), Choice(entry.id), Choice(NOTHING))
        order = checked(core, Form(text, number, count, arms=arms))
        on_step, on_wait = step_words(progress, "Rendering"), waiting(progress)
        return compare(core, visitor_id, order, on_step=on_step, on_wait=on_wait).id

    away: dict[str, Any] = {"api_visibility": "private"}
    export.click(on_export, selected, [file_name, file_text], **QUEUED).success(
        None, [file_name, file_text], js=SAVE_SCRIPT, **away
    )
    scales.click(on_open, [visitor, selected], go, **QUEUED).success(None, js=go_to("scales"), **away)
    against.click(
        on_compare,
        [visitor, selected, prompt, seed, steps],
        go,
        concurrency_limit=8,
        concurrency_id="people",
        show_progress_on=[seen[0]],
        api_visibility="private",
    ).success(None, js=go_to("."), **away)

    def on_load(_: object) -> list[Any]:
        return drawn(core, thumbnails, "", BASE)

    def ready(_: object, now: str) -> list[Any]:
        """The first calibration of the loaded backbone is chosen, unless one of it is already."""
        spec = core.host.wait_ready().spec
        entries = store.entries(spec.name)
        keep = next((e for e in entries if e.id == now), next(iter(entries), None))
        return [gr.Slider(value=spec.steps), keep.id if keep is not None else ""]

    when_loaded(visitor, on_load, [], kept)
    when_ready(core.host, visitor, ready, [selected], [steps, selected])
