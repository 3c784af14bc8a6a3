"""Scales: the mixing desk. One vector, its picture beside the base's, and every way to change it."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from calibri.calibration.artifact import Calibration
from calibri.calibration.layout import GRANULARITIES
from calibri.calibration.vector_text import format_vector
from calibri.errors import ArtifactError
from studio import firstvisit
from studio.arms import LARGEST_SEED, Ask, calibration_of_desk, dice, facts
from studio.charts import vector_figure
from studio.components import (
    caption,
    chart,
    enlarged,
    guard,
    picture,
    script,
    step_words,
    visitor_state,
    waiting,
    was_cancelled,
    when_loaded,
    when_ready,
)
from studio.desk import Desk, checked, strips
from studio.deskwork import (
    RANGE,
    change,
    desk_of,
    desk_value,
    file_of,
    from_text,
    moved,
    opened,
    preview,
)
from studio.services import Services

TITLE, PATH = "Scales", "/scales"
IDLE = "Drag a slider; double-click resets it; hold Shift and drag to draw a curve."
SAVE_SCRIPT = """(name, text) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/json'}));
  link.download = name; link.click(); URL.revokeObjectURL(link.href);
}"""
TOOLS = {
    "undo": "Undo",
    "redo": "Redo",
    "weaker": "Weaken",
    "stronger": "Strengthen",
    "mirror": "Mirror",
    "reset": "Reset all",
}
DESK_HTML = f"""<div class='desk-box'><div class='desk-top'>
<span class='desk-readout' role='status' data-idle='{IDLE}'>{IDLE}</span>
<span class='desk-key'><span><i class='key-attn'></i>attention</span><span><i class='key-mlp'></i>MLP</span>
<span><i class='key-fused'></i>fused</span><span><i class='key-txt'></i>text stream</span></span></div>
<div class='desk' tabindex='-1'></div></div>"""


def summary(desk: Desk | None, remark: str = "") -> str:
    """One line on the vector."""
    if desk is None:
        return "<span class='aside'>The backbone is loading; its scales appear above.</span>"
    changed = sum(abs(v - 1) >= 0.005 for v in desk.values)
    words = f"{len(desk.values)} scales, {f'{changed} moved' if changed else 'all at 1.00'}"
    return f"<span class='aside'>{html.escape(' · '.join(filter(None, (words, remark))))}</span>"


def drawn(desk: Desk, remark: str = "", sent: int = 0) -> list[Any]:
    """The outputs that follow every change: desk, text, chart, plain values, summary, undo, redo."""
    return [
        desk_value(desk, sent),
        format_vector(desk.values, desk.layout),
        vector_figure(desk.layout.names, desk.values),
        list(desk.values),
        summary(desk, remark),
        gr.Button(interactive=bool(desk.past)),
        gr.Button(interactive=bool(desk.future)),
    ]


# the page


def build(services: Services) -> None:
    """Lay out the page inside the current Blocks."""
    first = firstvisit.opening(services.assets)
    start = first.ask if first else Ask(firstvisit.examples()[0], 3, 8)
    visitor = visitor_state()
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(start.prompt, label="Prompt", lines=1, max_lines=2, scale=6, elem_id="prompt")
        seed = gr.Number(
            start.seed,
            label="Seed",
            precision=0,
            minimum=0,
            maximum=LARGEST_SEED,
            min_width=90,
            scale=1,
            elem_id="seed",
        )
        roll = gr.Button("Roll dice", min_width=80, scale=0, elem_id="dice")
        steps = gr.Slider(1, 50, start.steps, step=1, label="Steps", min_width=150, scale=2, elem_id="steps")
        run = gr.Button(
            "Render",
            variant="primary",
            min_width=100,
            scale=0,
            elem_id="render",
            elem_classes="primary-action",
        )
    desk_view = gr.HTML(
        None,
        html_template=DESK_HTML,
        js_on_load=script("desk.js"),
        apply_default_css=False,
        elem_id="desk",
    )
    with gr.Row(elem_id="desk-tools"):
        granularity = gr.Radio(
            [(g.capitalize(), g) for g in GRANULARITIES],
            value="layer",
            show_label=False,
            container=False,
            label="Granularity",
            min_width=250,
            elem_id="granularity",
        )
        undo, redo, weaker, stronger, mirror, reset = (
            gr.Button(
                words,
                size="sm",
                scale=0,
                min_width=74,
                elem_id=name,
                interactive=name not in ("undo", "redo"),
            )
            for name, words in TOOLS.items()
        )
        about = gr.HTML(summary(None), elem_id="about", min_width=200)
    with gr.Row():
        with gr.Column(min_width=300):
            base_view = picture("base", elem_id="picture-base", label="Base")
            base_words = gr.HTML(caption("base", "Base", []), elem_id="caption-base")
        with gr.Column(min_width=300):
            mine_view = picture("calibrated", elem_id="picture-calibrated", label="Calibrated")
            mine_words = gr.HTML(caption("calibrated", "Calibrated", []), elem_id="caption-calibrated")
        with gr.Column(min_width=320), gr.Tabs():
            with gr.Tab("Text"):
                text = gr.Textbox(
                    label="The vector, one line a scale",
                    lines=12,
                    max_lines=12,
                    elem_id="vector-text",
                    info="Ranges work too: double[0-3].attn = 1.05. Names left out become 1.00.",
                )
                use_text = gr.Button("Apply the text", size="sm", elem_id="apply-text")
            with gr.Tab("Bars"):
                bars = chart(elem_id="bars", height=230)
            with gr.Tab("Files"):
                saved = gr.Dropdown([], label="Saved calibrations", value=None, elem_id="saved")
                open_saved = gr.Button("Open on the desk", size="sm", elem_id="open-saved")
                title = gr.Textbox(label="Title", placeholder="Warm edges", max_lines=1, elem_id="title")
                with gr.Row():
                    save = gr.Button("Save in the studio", size="sm", elem_id="save")
                    as_file = gr.Button("Download as file", size="sm", elem_id="download")
                upload = gr.UploadButton(
                    "Load from a file", file_types=[".json"], size="sm", elem_id="upload"
                )
            with gr.Tab("Sliders"):
                show_plain = gr.Checkbox(
                    False, label="Show one plain slider for each scale", elem_id="show-plain"
                )

    vector = gr.State([])
    file_name, file_text = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")
    arrived = gr.Textbox(visible="hidden", elem_id="arrived")
    after = [desk_view, text, bars, vector, about, undo, redo]
    seen = [base_view, base_words, mine_view, mine_words]
    asked = [prompt, seed, steps]

    def pictures(visitor_id: object, p: str, n: float, s: float, progress: gr.Progress) -> list[Any]:
        base, mine = preview(
            services,
            visitor_id,
            p,
            n,
            s,
            on_step=step_words(progress, "Rendering"),
            on_wait=waiting(progress),
        )
        return [
            enlarged(base.image),
            caption("base", "Base", facts(base), base.rewards),
            enlarged(mine.image),
            caption("calibrated", "Your scales", facts(mine), mine.rewards, base.rewards),
        ]

    def follow(
        edit: Callable[..., Desk | tuple[Desk, str]], by_event: bool = False
    ) -> Callable[..., Iterator[list[Any]]]:
        """A handler of visitor, prompt, seed, steps, progress, inputs: it edits the desk, then renders.
        `by_event`: the edit gets what the event itself carried."""

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
            desk, remark = made if isinstance(made, tuple) else (made, "")
            place = services.visitors.of(visitor_id)
            yield [*drawn(desk, remark, place.sent), *[gr.skip()] * len(seen)]
            try:
                brought = pictures(visitor_id, p, n, s, progress)
                # A skipped HTML component in a closed tab would lose its figure: it is sent again.
                rest = [gr.skip()] * len(after)
                rest[after.index(bars)] = vector_figure(place.desk.layout.names, place.desk.values)
                yield [*rest, *brought]
            except Exception as error:
                if not was_cancelled(error):
                    raise  # a newer move took over: its picture is on the way

        return on_edit

    def on(
        triggers: Any, edit: Callable[..., Any], inputs: Sequence[Any] = (), by_event: bool = False
    ) -> None:
        listen = functools.partial(gr.on, triggers) if isinstance(triggers, list) else triggers
        listen(
            follow(edit, by_event),
            [visitor, *asked, *inputs],
            [*after, *seen],
            trigger_mode="multiple",
            concurrency_limit=8,
            concurrency_id="people",
            show_progress_on=[mine_view],
            api_visibility="private",
        )

    def edited(edit: Callable[[Desk], Desk]) -> Callable[[object], Desk]:
        return lambda visitor_id: change(services, visitor_id, edit)

    on(desk_view.release, lambda v, payload: moved(services, v, payload), by_event=True)
    on([run.click, prompt.submit, seed.submit, steps.release, arrived.change], edited(lambda d: d))
    on(undo.click, edited(Desk.undo))
    on(redo.click, edited(Desk.redo))
    on(reset.click, edited(Desk.reset))
    on(weaker.click, edited(lambda d: d.strengthen(0.8)))
    on(stronger.click, edited(lambda d: d.strengthen(1.25)))
    on(mirror.click, edited(lambda d: d.strengthen(-1.0)))
    on(use_text.click, lambda v, t: from_text(services, v, t), [text])
    on(granularity.input, lambda v, g: desk_of(services, services.visitors.of(v), g), [granularity])
    roll.click(dice, None, seed, queue=False, api_visibility="private").then(
        follow(edited(lambda d: d)),
        [visitor, *asked],
        [*after, *seen],
        concurrency_id="people",
        concurrency_limit=8,
        show_progress_on=[mine_view],
        api_visibility="private",
    )

    def on_open(visitor_id: object, entry_id: str | None) -> tuple[Desk, str]:
        if not entry_id:
            raise ArtifactError("Choose a saved calibration first.")
        return opened(services, visitor_id, services.calibrations.get(entry_id).calibration)

    def on_upload(visitor_id: object, path: str) -> tuple[Desk, str]:
        return opened(services, visitor_id, Calibration.load(Path(path)))

    def level_of(visitor_id: object) -> str:
        desk = services.visitors.of(visitor_id).desk
        return desk.layout.granularity if desk else "layer"

    on(open_saved.click, on_open, [saved])
    on(upload.upload, on_upload, [upload])
    vector.change(
        level_of, visitor, granularity, queue=False, show_progress="hidden", api_visibility="private"
    )

    def offered() -> gr.Dropdown:
        entries = services.calibrations.entries(services.host.status.backbone)
        return gr.Dropdown([(e.title, e.id) for e in entries])

    @guard
    def on_save(visitor_id: object, name: str, request: gr.Request) -> gr.Dropdown:
        services.organisers_only(request.username)
        if not name.strip():
            raise ArtifactError("Give it a title first.")
        desk = desk_of(services, services.visitors.of(visitor_id))
        entry = services.calibrations.save(
            calibration_of_desk(desk, services.host.status.backbone, name.strip())
        )
        gr.Info(f"Saved as “{html.escape(entry.title)}”.", duration=4)
        return offered()

    save.click(on_save, [visitor, title], saved, queue=False, api_visibility="private")

    @guard
    def on_download(visitor_id: object, name: str) -> list[str]:
        desk = desk_of(services, services.visitors.of(visitor_id))
        return list(file_of(desk, services.host.status.backbone, name))

    as_file.click(
        on_download, [visitor, title], [file_name, file_text], queue=False, api_visibility="private"
    ).success(None, [file_name, file_text], js=SAVE_SCRIPT, api_visibility="private")

    @gr.render(inputs=[visitor, show_plain], triggers=[show_plain.change, granularity.change])
    def plain_sliders(visitor_id: str | None, shown: bool) -> None:
        """The accessible alternative: one gr.Slider a scale. Sent again only when the layout changes."""
        desk = services.visitors.of(visitor_id).desk
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
            lambda v, *now: change(services, v, lambda d: d.set(checked(now, d.layout))),
            sliders,
        )
        vector.change(
            lambda now: now, vector, sliders, queue=False, show_progress="hidden", api_visibility="private"
        )

    def ready(visitor_id: str, p: str, n: float, s: float) -> list[Any]:
        place = services.visitors.of(visitor_id)
        desk = desk_of(services, place)
        return [*drawn(desk, sent=place.sent), desk.layout.granularity, offered(), "arrived"]

    when_loaded(visitor)
    when_ready(services.host, visitor, ready, asked, [*after, granularity, saved, arrived])
