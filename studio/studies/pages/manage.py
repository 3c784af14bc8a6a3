"""Studies: see how far each one is, try it as a rater would, open, invite, close. For organisers."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from calibri.errors import StudyError
from calibri.words import duration
from studio.core import Core
from studio.studies import commands
from studio.studies.pages.new import arm_choices, form
from studio.studies.pages.results import STYLE
from studio.studies.results.analysis import people
from studio.studies.results.reports import table_html
from studio.studies.storage.study_store import NEXT, Study, now
from studio.studies.studies import Studies
from studio.ui.elements import empty, hint, offers
from studio.ui.errors import guard
from studio.ui.events import DIRECT, IN_ORDER, QUEUED, fill
from studio.ui.theme import CALIBRATED

TITLE, PATH = "Studies", "/studies"
NOTHING = "Your studies will stand here. Make the first one below: two arms, a few prompts and a protocol."
REFUSED = "Studies are for the organisers of this studio."
STEPS = {
    "draft": "Next: look at the preview, then open it.",
    "open": "Send the link to your raters. Results stay hidden until you close it.",
    "closed": "See the page Results. It can be opened again, which the report will show.",
    "archived": "Put away. Its votes and results are kept.",
}
UNRENDERED = "Next: render its pictures. What is rendered is kept, so rendering goes on where it stopped."
MOST_ROWS = 100  # of a table of progress


def offered(studies: Studies) -> list[tuple[str, str]]:
    """(words, id) of all studies but the archived, the newest first."""
    return [(f"{s.name} ({s.status})", s.id) for s in studies.store.all("draft", "open", "closed")]


def card(studies: Studies, study: Study) -> str:
    """Where a study is, and what comes next."""
    progress, rendering = studies.store.progress(study), studies.renders.progress(study.id)
    pictures = f"{progress.rendered} of {progress.pairs} pairs have their pictures"
    busy = rendering is not None and rendering.phase == "rendering"
    if rendering is not None and busy:
        left = f", {duration(rendering.seconds_left)} left" if rendering.seconds_left else ""
        pictures = f"Rendering: {rendering.done} of {rendering.total or '…'} pictures{left}"
    elif rendering is not None and rendering.phase in ("failed", "stopped"):
        pictures += f". Rendering {rendering.phase}. {rendering.error}"
    whole = progress.rendered == progress.pairs
    step = STEPS[study.status] if whole or study.status != "draft" else UNRENDERED
    if busy:
        step = "Its pictures are being rendered."
    wanted = f" of {progress.wanted}" if progress.wanted else ""
    rows = [
        ("State", f"{study.status}. {step}"),
        ("Arms", " · ".join(a.label for a in studies.store.arms(study.id) if a.kind != "gold")),
        ("Protocol", f"{study.protocol.preset}, sha256 {study.protocol.hash[:12]}…"),
        ("Pictures", pictures),
        ("Votes", f"{progress.showings}{wanted} pairs voted on, {people(progress.raters)}"),
    ]
    lines = "".join(f"<tr><td><b>{k}</b></td><td>{html.escape(v)}</td></tr>" for k, v in rows)
    bar = ""
    if rendering is not None and busy:
        share = 100 * rendering.done / (rendering.total or 1)
        bar = (
            "<div role='progressbar' aria-label='pictures rendered' aria-valuemin='0' aria-valuemax='100' "
            f"aria-valuenow='{share:.0f}' style='background:var(--well);border-radius:5px;margin-bottom:8px'>"
            f"<div style='background:{CALIBRATED};width:{share:.1f}%;height:10px;border-radius:5px'>"
            "</div></div>"
        )
    address = html.escape(commands.preview(studies, study.id))
    see = f"<a href='{address}' target='_blank'>See what a rater will see</a>"
    return f"<div class='tables'><table>{lines}</table>{bar}{see}</div>"


def progress_tables(studies: Studies, study: Study) -> str:
    """Who has voted how much, and which pairs wait for votes. Says nothing of who wins."""
    raters = studies.store.count_by_rater(study.id)
    arms, pairs = studies.store.count_by_arms(study.id), studies.store.count_by_pair(study.id)
    each = study.protocol.votes_per_pair
    moment = now()

    def ago(time: Any) -> str:
        return "–" if time is None else f"{duration(max(0.0, (moment - time).total_seconds()))} ago"

    parts = [
        "<h4>Raters</h4>",
        table_html(
            (
                ("rater", "came by", "pairs voted on", "last vote"),
                [[r["id"][:8], r["kind"], str(r["done"]), ago(r["last"])] for r in raters[:MOST_ROWS]],
            )
        )
        if raters
        else empty("Nobody has agreed to take part yet."),
        "<h4>Pairs of arms</h4>",
        table_html(
            (
                ("arms", "pairs", "votes", "fewest, most a pair", "first arm left, right"),
                [
                    [
                        f"{a['x']} and {a['y']}",
                        str(a["pairs"]),
                        str(a["votes"]),
                        f"{a['fewest']}, {a['most']}",
                        f"{a['lefts']}, {a['votes'] - a['lefts']}",
                    ]
                    for a in arms
                ],
            )
        ),
        "<h4>Pairs, those with the fewest votes first</h4>",
        table_html(
            (
                ("prompt", "arms", "votes" + (f" (of {each})" if each else "")),
                [[p["prompt"], f"{p['x']} and {p['y']}", str(p["votes"])] for p in pairs[:MOST_ROWS]],
            )
        ),
    ]
    over = [f"{len(rows)} {word}" for rows, word in ((raters, "raters"), (pairs, "pairs")) if len(rows) > 100]
    note = f"<p>The first {MOST_ROWS} of {' and '.join(over)}.</p>" if over else ""
    return f"<div class='tables'>{''.join(parts)}{note}</div>"


def rater_page(core: Core) -> str:
    """The page that raters can open: with accounts, Gradio's own pages ask everybody to sign in."""
    return "ballot" if core.settings.accounts and not core.settings.demo else "vote"


def address_of(core: Core, request: gr.Request) -> str:
    """Where this browser reached the studio."""
    origin = request.headers.get("origin") or f"{request.request.url.scheme}://{request.headers['host']}"
    return origin + core.settings.root_path.rstrip("/")


def links(core: Core, study: Study, address: str) -> str:
    """The raters' links, one a line."""
    if study.protocol.access == "invite":
        return "By invite link only: make them below."
    pages = dict.fromkeys((rater_page(core), "ballot"))
    return "\n".join(address + commands.link(study.id, page=page) for page in pages)


def who_can_come(core: Core) -> str:
    """A remark on a studio that raters cannot reach."""
    outside = core.settings.demo or core.settings.share or core.settings.root_path
    if outside or core.settings.host not in ("127.0.0.1", "localhost", "::1"):
        return ""
    return hint(
        "Only this computer can open these links. To let raters on other machines in, start the studio with "
        "<code>--host 0.0.0.0</code> and <code style='white-space:nowrap'>--auth NAME:PASSWORD</code>: you "
        "sign in, raters need no account."
    )


def invites(core: Core, studies: Studies, study: str, count: float, address: str) -> str:
    """Invite links, one a line, with the studio's own address in front."""
    values = {"study": study, "count": int(count or 0), "page": rater_page(core)}
    made = commands.run(studies, "invite", values)
    assert isinstance(made, dict)
    return "\n".join(address + link for link in made["links"])


def possible(studies: Studies, study: Study | None) -> list[Any]:
    """Which of render, stop, open, close and archive can be pressed now."""
    if study is None:
        return [gr.Button(interactive=False)] * 5
    progress, rendering = studies.store.progress(study), studies.renders.progress(study.id)
    busy = rendering is not None and rendering.phase == "rendering"
    missing = progress.rendered < progress.pairs
    can = NEXT[study.status]
    return [
        gr.Button(interactive=on)
        for on in (
            missing and not busy,
            busy,
            "open" in can and not missing and not busy,
            "closed" in can,
            "archived" in can and not busy,
        )
    ]


def build(core: Core, studies: Studies) -> None:
    """Lay out the page inside the current Blocks."""
    gr.HTML(STYLE)
    study = gr.Dropdown([], label="Study", elem_id="study", filterable=False)
    with gr.Row(elem_id="study-do"):
        buttons = [
            gr.Button(text, size="md", min_width=110, interactive=False, elem_id=f"study-{what}")
            for text, what in (
                ("Render pictures", "render"),
                ("Stop rendering", "stop"),
                ("Open", "open"),
                ("Close", "close"),
                ("Archive", "archive"),
            )
        ]
    state = gr.HTML(empty(NOTHING), elem_id="study-card")
    with gr.Row():
        address = gr.Textbox(
            label="Link for raters (the second: without the studio around it)",
            lines=2,
            interactive=False,
            buttons=["copy"],
            elem_id="study-link",
            scale=3,
        )
        gr.HTML(who_can_come(core))
    with gr.Accordion("Invite links", open=False), gr.Row():
        with gr.Column(scale=1, min_width=160):
            count = gr.Number(10, label="How many raters", precision=0, minimum=1, maximum=10_000)
            invite = gr.Button("Make links", size="md", elem_id="study-invite")
        sent = gr.Textbox(
            label="One link for each rater",
            lines=4,
            max_lines=12,
            buttons=["copy"],
            scale=4,
            elem_id="study-links",
        )
    with gr.Accordion("Progress by rater and by pair", open=False, elem_id="study-more") as more:
        progress = gr.HTML("", elem_id="study-progress")
    gr.Markdown("### New study")

    outputs = [study, state, address, progress, *buttons]

    def listing(chosen: str | None) -> tuple[list[tuple[str, str]], str | None]:
        """All studies, and the chosen one, or else the first."""
        choices = offered(studies)
        return choices, chosen if chosen in [c[1] for c in choices] else choices[0][1] if choices else None

    def shown(chosen: str | None, request: gr.Request) -> list[Any]:
        choices, chosen = listing(chosen)
        known = studies.store.get(chosen) if chosen else None
        if known is None:
            return [gr.Dropdown(choices, value=None), empty(NOTHING), "", "", *possible(studies, None)]
        return [
            gr.Dropdown(choices, value=chosen),
            card(studies, known),
            links(core, known, address_of(core, request)),
            progress_tables(studies, known),
            *possible(studies, known),
        ]

    choice = form(core, studies, shown, outputs)

    def acting(what: str) -> Any:
        @guard
        def act(chosen: str | None, request: gr.Request) -> list[Any]:
            core.rights.study_organisers_only(core.rights.username(request))
            if not chosen:
                raise StudyError("Choose a study first.")
            if what == "stop":
                studies.renders.stop(chosen)
            elif what:
                commands.run(studies, what, {"study": chosen})
            choices, first = listing(chosen)
            return [offers(choices, chosen, first), *shown(chosen, request)[1:]]

        return act

    gr.on([study.input, more.expand], acting(""), study, outputs, **IN_ORDER)
    for button, what in zip(buttons, ("render", "stop", "open", "close", "archive")):
        button.click(acting(what), study, outputs, **QUEUED)

    @guard
    def on_load(request: gr.Request) -> list[Any]:
        if not core.rights.may_organise(core.rights.username(request)):
            return [gr.Dropdown([]), empty(REFUSED), "", "", *possible(studies, None), gr.skip()]
        return [*shown(None, request), gr.Dropdown(arm_choices(core), value="")]

    fill(on_load, [], [*outputs, choice])

    last = gr.State("")

    def on_tick(chosen: str | None, before: str, request: gr.Request) -> list[Any]:
        if chosen and core.rights.may_organise(core.rights.username(request)):
            known = studies.store.get(chosen)
            drawn = card(studies, known)
            if drawn != before:
                return [drawn, drawn, progress_tables(studies, known), *possible(studies, known)]
        return [gr.skip()] * (3 + len(buttons))

    gr.Timer(1.5).tick(on_tick, [study, last], [state, last, progress, *buttons], **DIRECT)

    @guard
    def on_invite(chosen: str | None, number: float, request: gr.Request) -> str:
        core.rights.study_organisers_only(core.rights.username(request))
        if not chosen:
            raise StudyError("Choose a study first.")
        return invites(core, studies, chosen, number, address_of(core, request))

    invite.click(on_invite, [study, count], sent, **QUEUED)
