"""Compare: one prompt and seed, three arms side by side. The page that a newcomer sees first."""

from __future__ import annotations

from typing import Any

import gradio as gr

from calibri.calibration.layout import GRANULARITIES
from studio import firstvisit
from studio.arms import (
    DESK,
    KINDS,
    LARGEST_SEED,
    WORDS,
    Arm,
    Ask,
    Comparison,
    Shot,
    arm,
    choices,
    dice,
    facts,
    problems_of,
    shoot,
    word_hint,
)
from studio.components import (
    caption,
    enlarged,
    guard,
    picture,
    said,
    step_words,
    visitor_state,
    waiting,
    when_loaded,
)
from studio.services import Services

TITLE, PATH = "Compare", "/"
SENTENCE = (
    "One model, one prompt, the same noise. Nothing was trained: only a few dozen numbers that multiply "
    "what the model's layers add are different."
)
MISSING_VISIT = "Type a prompt and press Render: three pictures will appear here."
COLUMNS = (("base", "Base"), ("calibrated", "Calibrated"), ("ensemble", "Ensemble"))


def latest(services: Services, visitor: object) -> Comparison | None:
    """The comparison this visitor saw last, or that of the first visit."""
    history = services.visitors.of(visitor).history
    return history[0] if history else firstvisit.opening(services.assets)


def compare(
    services: Services,
    visitor: object,
    prompt: str,
    seed: float,
    steps: float,
    granularity: str,
    guidance: float = 1.0,
    calibrated: str | None = None,
    ensemble: str | None = None,
    *,
    on_step: Any = None,
    on_wait: Any = None,
) -> Comparison:
    """Render the three arms and put them first in the visitor's history.

    Raises RenderError for what cannot be asked, HostError where the model cannot serve, HostCancelled when
    stopped.
    """
    ask = Ask.checked(prompt, seed, steps, guidance)
    place = services.visitors.of(visitor)
    cancelled = place.begin("compare")
    services.host.wait_ready(cancel=cancelled, on_wait=on_wait)
    picked = {"base": None, "calibrated": calibrated, "ensemble": ensemble}
    arms: list[Arm] = [arm(services, kind, granularity, picked[kind], place.desk) for kind in KINDS]
    shots = shoot(services, arms, ask, on_step=on_step, cancel=cancelled, on_wait=on_wait)
    made = Comparison(ask, shots)
    place.history.appendleft(made)
    return made


def caption_of(shot: Shot, base: Shot | None) -> str:
    """The HTML under one picture."""
    if shot.image is None:
        return caption(shot.arm.kind, shot.arm.title, [], note=shot.arm.missing)
    title = WORDS[shot.arm.kind]
    named = shot.arm.calibration.title if shot.arm.calibration is not None else ""
    if named and named != title:
        title = f"{title}: {named}"
    return caption(shot.arm.kind, title, facts(shot), shot.rewards, base.rewards if base else None)


def shown(comparison: Comparison | None) -> list[Any]:
    """[image, caption] × 3 for the page."""
    if comparison is None:
        return [part for kind, title in COLUMNS for part in (None, caption(kind, title, []))]
    base = next((s for s in comparison.shots if s.arm.kind == "base" and s.image is not None), None)
    parts: list[Any] = []
    for shot in comparison.shots:
        parts += [enlarged(shot.image) if shot.image is not None else None, caption_of(shot, base)]
    return parts


def pair(comparison: Comparison | None, left: str, right: str) -> tuple[Any, Any] | None:
    """The two pictures of the image slider, or None while one of them is missing."""
    if comparison is None:
        return None
    images = {s.arm.kind: s.image for s in comparison.shots}
    a, b = images.get(left), images.get(right)
    if a is None or b is None or a.size != b.size:
        return None
    return enlarged(a), enlarged(b)


def thumbnails(services: Services, visitor: object) -> list[tuple[Any, str]]:
    """One picture for each comparison of the session: the calibrated one where there is one."""
    made = []
    for comparison in services.visitors.of(visitor).history:
        images = {s.arm.kind: s.image for s in comparison.shots if s.image is not None}
        image = images.get("calibrated") or images.get("base")
        if image is not None:
            made.append(
                (
                    image,
                    f"{comparison.ask.prompt} · seed {comparison.ask.seed} · {comparison.ask.steps} steps",
                )
            )
    return made


def lead_html(comparison: Comparison | None) -> str:
    """The sentence over the pictures: what one sees, and why they differ."""
    if comparison is None:
        return f"<div class='lead'>{MISSING_VISIT}</div>"
    return f"<div class='lead'>{SENTENCE}</div>"


def marked(prompt: object, seed: object, steps: object, rest: int) -> list[Any]:
    """Verdicts for visitor, prompt, seed, steps and `rest` more. Gradio marks wrong fields, then queues."""
    problems = problems_of(prompt, seed, steps)
    fine = gr.validate(True, "")
    checked = [
        gr.validate(name not in problems, problems.get(name, "")) for name in ("prompt", "seed", "steps")
    ]
    return [fine, *checked, *[fine] * rest]


def build(services: Services) -> None:
    """Lay out the page inside the current Blocks."""
    first = firstvisit.opening(services.assets)
    start = first.ask if first else Ask(firstvisit.examples()[0], 3, 8)
    visitor = visitor_state()

    lead = gr.HTML(lead_html(first), elem_id="lead")
    with gr.Row(equal_height=True, elem_id="ask"):
        prompt = gr.Textbox(
            start.prompt, label="Prompt", lines=1, max_lines=3, scale=6, min_width=280, elem_id="prompt"
        )
        seed = gr.Number(
            start.seed,
            label="Seed",
            precision=0,
            minimum=0,
            maximum=LARGEST_SEED,
            min_width=90,
            elem_id="seed",
        )
        roll = gr.Button("Roll dice", scale=0, min_width=80, elem_id="dice")
        steps = gr.Slider(1, 50, start.steps, step=1, label="Steps", scale=2, min_width=170, elem_id="steps")
        run = gr.Button(
            "Render",
            variant="primary",
            scale=0,
            min_width=110,
            elem_id="render",
            elem_classes="primary-action",
        )
        stop = gr.Button("Stop", scale=0, min_width=70, elem_id="stop")
    remark = gr.HTML("", elem_id="remark")

    images, captions = [], []
    first_shown = shown(first)
    with gr.Row(elem_id="pictures"):
        for column, (kind, title) in enumerate(COLUMNS):
            with gr.Column(min_width=300):
                images.append(
                    picture(kind, value=first_shown[2 * column], elem_id=f"picture-{kind}", label=title)
                )
                captions.append(gr.HTML(first_shown[2 * column + 1], elem_id=f"caption-{kind}"))

    with gr.Row(equal_height=True, elem_classes="go-on"):
        try_prompt = gr.Button("Try a prompt of your own", elem_id="go-prompt")
        gr.Button("Move a slider", link="scales", elem_id="go-scales")
        gr.Button(
            "Vote for the better picture", link="quick", elem_id="go-vote", visible=services.db is not None
        )

    gr.Examples(
        [[e] for e in firstvisit.examples()], inputs=[prompt], label="Prompts to try", examples_per_page=12
    )
    with gr.Row():
        with gr.Column(min_width=320):
            with gr.Row():
                left = gr.Dropdown([(t, k) for k, t in COLUMNS], value="base", label="Left", elem_id="left")
                right = gr.Dropdown(
                    [(t, k) for k, t in COLUMNS], value="calibrated", label="Right", elem_id="right"
                )
            slider = gr.ImageSlider(
                pair(first, "base", "calibrated"),
                label="Drag to compare",
                format="png",
                type="pil",
                interactive=False,
                height=400,
                max_height=400,
                buttons=["fullscreen"],
                elem_id="slider",
                elem_classes="stage",
            )
        with gr.Column(min_width=320):
            granularity = gr.Radio(
                [(g.capitalize(), g) for g in GRANULARITIES],
                value="layer",
                label="Granularity of the calibrations",
                info="How finely the scales are tied together",
                elem_id="granularity",
            )
            with gr.Accordion("More settings", open=False):
                guidance = gr.Slider(
                    1,
                    5,
                    1,
                    step=0.1,
                    label="Guidance for base and calibrated",
                    info="1 is none",
                    elem_id="guidance",
                )
                pick_calibrated = gr.Dropdown(
                    [("Your desk", DESK)], value=None, label="Calibrated is", elem_id="pick-calibrated"
                )
                pick_ensemble = gr.Dropdown([], value=None, label="Ensemble is", elem_id="pick-ensemble")
            history = gr.Gallery(
                label="This session",
                columns=5,
                height=250,
                object_fit="contain",
                format="png",
                allow_preview=False,
                fit_columns=False,
                buttons=["download_all"],
                elem_id="history",
            )
            gr.HTML(
                "<div class='aside'>Pictures you render are kept here while the studio runs. "
                "Choose one to see its three arms again.</div>"
            )

    pictures = [part for both in zip(images, captions) for part in both]
    asked = [prompt, seed, steps]

    @guard
    def on_render(
        visitor_id: str | None,
        text: str,
        number: float,
        count: float,
        level: str,
        strength: float,
        own: str | None,
        many: str | None,
        a: str,
        b: str,
        progress: gr.Progress = gr.Progress(),
    ) -> list[Any]:
        made = compare(
            services,
            visitor_id,
            text,
            number,
            count,
            level,
            strength,
            own,
            many,
            on_step=step_words(progress, "Rendering"),
            on_wait=waiting(progress),
        )
        return [
            *shown(made),
            lead_html(made),
            said(word_hint(services, text)),
            pair(made, a, b),
            thumbnails(services, visitor_id),
        ]

    outputs = [*pictures, lead, remark, slider, history]
    gr.on(
        [run.click, prompt.submit],
        on_render,
        [visitor, *asked, granularity, guidance, pick_calibrated, pick_ensemble, left, right],
        outputs,
        concurrency_limit=8,
        concurrency_id="people",
        show_progress_on=images,
        validator=lambda _, p, n, s, *rest: marked(p, n, s, len(rest)),
        api_visibility="private",
    )
    stop.click(
        lambda v: services.visitors.of(v).stop("compare"),
        visitor,
        None,
        queue=False,
        api_visibility="private",
    )
    roll.click(dice, None, seed, queue=False, api_visibility="private")
    try_prompt.click(
        None,
        js="() => { const t = document.querySelector('#prompt textarea, #prompt input'); "
        "t.focus(); t.select(); }",
    )

    def on_pair(visitor_id: str | None, a: str, b: str) -> Any:
        return pair(latest(services, visitor_id), a, b)

    gr.on(
        [left.input, right.input],
        on_pair,
        [visitor, left, right],
        slider,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )

    @guard
    def on_history(visitor_id: str | None, a: str, b: str, event: gr.SelectData) -> list[Any]:
        history_now = list(services.visitors.of(visitor_id).history)
        if not 0 <= event.index < len(history_now):
            raise gr.Error("That picture is no longer kept.", print_exception=False)
        chosen = history_now[event.index]
        return [*shown(chosen), pair(chosen, a, b), chosen.ask.prompt, chosen.ask.seed, chosen.ask.steps]

    history.select(
        on_history,
        [visitor, left, right],
        [*pictures, slider, *asked],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )

    def on_choices(level: str) -> list[Any]:
        offered = [
            [("The studio's first", ""), *choices(services, k, level)] for k in ("calibrated", "ensemble")
        ]
        return [gr.Dropdown([*offered[0], ("Your desk", DESK)], value=""), gr.Dropdown(offered[1], value="")]

    gr.on(
        [granularity.input],
        on_choices,
        granularity,
        [pick_calibrated, pick_ensemble],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )

    def on_load(visitor_id: str, level: str) -> list[Any]:
        kept = services.visitors.of(visitor_id).history
        if not kept:
            return [gr.skip()] * (len(pictures) + len(asked) + 2) + on_choices(level)
        last = kept[0]
        return [
            *shown(last),
            last.ask.prompt,
            last.ask.seed,
            last.ask.steps,
            pair(last, "base", "calibrated"),
            thumbnails(services, visitor_id),
            *on_choices(level),
        ]

    when_loaded(
        visitor, on_load, [granularity], [*pictures, *asked, slider, history, pick_calibrated, pick_ensemble]
    )
