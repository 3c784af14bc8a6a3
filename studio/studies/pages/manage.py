"""Studies: see how far each one is, try it as a rater would, open, invite, close. For organisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from calibri.errors import StudyError
from calibri.words import count, duration
from studio.core import Core
from studio.studies import commands
from studio.studies.pages import invited, new
from studio.studies.storage.invite_store import Invite
from studio.studies.storage.picture_watch import LostPicture
from studio.studies.storage.study_store import NEXT, Study, now
from studio.studies.studies import Studies
from studio.ui.elements import empty, hint, list_unreadable, offers, read_beside
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER, QUEUED, WATCHES, fill
from studio.ui.templates import fill_template
from studio.ui.theme import CALIBRATED

TITLE, PATH = "Studies", "/studies"
NOTHING = "Your studies will appear here. Make the first one below: two arms, a few prompts and a protocol."
REFUSED = "Studies are for the organisers of this studio."
CHOOSE = "Choose a study first."
STEPS = {
    "draft": "Next: look at the preview, then open it.",
    "open": "Send the link to your raters. Results stay hidden until you close it.",
    "closed": "See the page Results. It can be opened again, and the report will say so.",
    "archived": "It is put away. Its votes and results are kept.",
}
UNRENDERED = "Next: render its pictures. Rendering goes on where it stopped."
ACTIONS = {
    "render": "Render pictures",
    "stop": "Stop rendering",
    "open": "Open",
    "close": "Close",
    "archive": "Archive",
}
MOST_ROWS = 100  # of a table of progress
MOST_LOST = 5  # pictures that are named


@dataclass(frozen=True)
class Page:
    """The components of the page. `actions`: one button for each of ACTIONS. `last`: the card as drawn."""

    study: gr.Dropdown
    actions: list[gr.Button]
    card: gr.HTML
    links: gr.Textbox
    count: gr.Number
    invite: gr.Button
    invites: gr.Textbox
    more: gr.Accordion
    progress: gr.HTML
    last: gr.State
    people: invited.Card

    @property
    def outputs(self) -> list[Any]:
        return [self.study, self.card, self.links, self.progress, *self.actions]


def lay_out(core: Core) -> Page:
    """Make the components inside the current Blocks."""
    gr.HTML(f"<style>{read_beside(__file__, 'tables.css')}</style>")
    study = gr.Dropdown([], label="Study", elem_id="study", filterable=False)
    with gr.Row(elem_id="study-do"):
        actions = [
            gr.Button(text, size="md", min_width=110, interactive=False, elem_id=f"study-{what}")
            for what, text in ACTIONS.items()
        ]
    card = gr.HTML(empty(NOTHING), elem_id="study-card")
    with gr.Row():
        links = gr.Textbox(
            label="Link for raters (the second: without the studio around it)",
            lines=2,
            interactive=False,
            buttons=["copy"],
            elem_id="study-link",
            scale=3,
        )
        with gr.Column(scale=1, min_width=240):  # below the links on a phone
            gr.HTML(warn_of_closed_doors(core))
    with gr.Accordion("Invite people by name", open=False, elem_id="study-invited"):
        people = invited.lay_out()
    with gr.Accordion("Invite links without names", open=False), gr.Row():
        with gr.Column(scale=1, min_width=160):
            number = gr.Number(10, label="How many raters", precision=0, minimum=1, maximum=10_000)
            invite = gr.Button("Make links", size="md", elem_id="study-invite")
        listed = gr.Textbox(
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
    last = gr.State("")
    return Page(study, actions, card, links, number, invite, listed, more, progress, last, people)


def build(core: Core, studies: Studies) -> None:
    """Lay out the page inside the current Blocks and connect it."""
    page, do = lay_out(core), Handlers(core, studies)
    form = new.lay_out(has_hub=core.hub_app is not None)
    new.wire(form, core, studies, do.on_show, page.outputs)
    gr.on([page.study.input, page.more.expand], do.act(""), page.study, page.outputs, **IN_ORDER)
    for button, what in zip(page.actions, ACTIONS):
        button.click(do.act(what), page.study, page.outputs, **QUEUED)
    fill(guard(do.on_load), [], [*page.outputs, form.choice])
    drawn = [page.card, page.last, page.progress, *page.actions]
    gr.Timer(1.5).tick(do.on_tick, [page.study, page.last], drawn, **WATCHES)
    page.invite.click(guard(do.on_invite), [page.study, page.count], page.invites, **QUEUED)
    invited.wire(page.people, page.study, core, studies, do.write_invite)
    page.study.change(do.list_invites, page.study, page.invites, **QUEUED)  # also after a reload


class Handlers:
    """What the page's events call. Each asks for the organiser's rights itself."""

    def __init__(self, core: Core, studies: Studies) -> None:
        self._core, self._studies = core, studies

    def on_show(self, chosen: str | None, request: gr.Request) -> list[Any]:
        """The values of `Page.outputs` for this study, or else for the first one."""
        choices = self._studies.store.list_choices("draft", "open", "closed")
        ids = [choice for _, choice in choices]
        chosen = chosen if chosen in ids else next(iter(ids), None)
        if chosen is None:
            nothing = empty(NOTHING) + list_unreadable(self._studies.store.unreadable())
            return [gr.Dropdown(choices, value=None), nothing, "", "", *_press(self._studies, None)]
        known = self._studies.store.get(chosen)
        return [
            gr.Dropdown(choices, value=chosen),
            draw_card(self._studies, known),
            write_links(self._core, known, find_address(self._core, request)),
            draw_progress(self._studies, known),
            *_press(self._studies, known),
        ]

    def act(self, what: str) -> Callable[..., list[Any]]:
        """The handler of one of ACTIONS, or with "" one that only shows the chosen study."""

        @guard
        def act(chosen: str | None, request: gr.Request) -> list[Any]:
            self._core.rights.study_organisers_only(request)
            if not chosen:
                raise StudyError(CHOOSE)
            if what == "stop":
                self._studies.renders.stop(chosen)
            elif what:
                commands.run(self._studies, what, {"study": chosen})
            choices = self._studies.store.list_choices("draft", "open", "closed")
            first = next((choice for _, choice in choices), None)
            return [offers(choices, chosen, first), *self.on_show(chosen, request)[1:]]

        return act

    def on_load(self, request: gr.Request) -> list[Any]:
        if not self._core.rights.may_organise(request):
            return [gr.Dropdown([]), empty(REFUSED), "", "", *_press(self._studies, None), gr.skip()]
        return [*self.on_show(None, request), gr.Dropdown(new.arm_choices(self._core), value="")]

    def on_tick(self, chosen: str | None, before: str, request: gr.Request) -> list[Any]:
        """Draw again where the card has changed since `before`."""
        known = self._studies.store.find(chosen) if self._core.rights.may_organise(request) else None
        if known is not None:
            drawn = draw_card(self._studies, known)
            if drawn != before:
                return [drawn, drawn, draw_progress(self._studies, known), *_press(self._studies, known)]
        return [gr.skip()] * (3 + len(ACTIONS))

    def on_invite(self, chosen: str | None, number: float, request: gr.Request) -> str:
        self._core.rights.study_organisers_only(request)
        if not chosen:
            raise StudyError(CHOOSE)
        values = {"study": chosen, "count": int(number or 0)}
        commands.run(self._studies, "invite", values)
        return self.list_invites(chosen, request)

    def list_invites(self, chosen: str | None, request: gr.Request) -> str:
        """Every link that was made for this study, one a line."""
        if not chosen or not self._core.rights.may_organise(request):
            return ""
        made = self._studies.voting.identities.make_invite
        address, page = find_address(self._core, request), rater_page(self._core)
        numbers = range(1, self._studies.invites.count(chosen) + 1)
        return "\n".join(address + commands.link(chosen, made(chosen, number), page) for number in numbers)

    def write_invite(self, invite: Invite, request: gr.Request) -> str:
        """The whole link of a named invite."""
        path = commands.invite_link(self._studies, invite, rater_page(self._core))
        return find_address(self._core, request) + path


def draw_card(studies: Studies, study: Study) -> str:
    """The state of a study and what comes next."""
    progress, rendering = studies.store.progress(study), studies.renders.progress(study.id)
    step = (
        UNRENDERED if study.status == "draft" and progress.rendered < progress.pairs else STEPS[study.status]
    )
    pictures = f"{progress.rendered} of {progress.pairs} pairs have their pictures"
    percent = None
    if rendering is not None and rendering.phase == "rendering":
        step = "Its pictures are being rendered."
        left = f", {duration(rendering.seconds_left)} left" if rendering.seconds_left else ""
        pictures = f"Rendering: {rendering.done} of {rendering.total or '…'} pictures{left}"
        percent = 100 * rendering.done / (rendering.total or 1)
    elif rendering is not None and rendering.phase in ("failed", "stopped"):
        pictures += f". Rendering {rendering.phase}. {rendering.error}"
    lost = studies.watch.list_lost(study.id)
    wanted = f" of {progress.wanted}" if progress.wanted else ""
    rows = {
        "State": f"{study.status}. {step}",
        "Arms": " · ".join(a.label for a in studies.store.arms(study.id) if a.kind != "gold"),
        "Protocol": f"{study.protocol.preset}, sha256 {study.protocol.hash[:12]}…",
        "Pictures": pictures,
        "Votes": f"{progress.showings}{wanted} pairs voted on, {count(progress.raters, 'rater')}",
    }
    if lost:
        rows["Lost pictures"] = tell_lost(lost)
    if dropped := studies.tell_dropped():
        rows["Lost votes"] = dropped
    if studies.archive is not None:
        rows["Archive"] = studies.archive.tell()
    preview = commands.preview(studies, study.id)
    drawn = fill_template(
        "studies/pages/card.html", rows=rows.items(), percent=percent, colour=CALIBRATED, preview=preview
    )
    return drawn + list_unreadable(studies.store.unreadable())


def tell_lost(lost: Sequence[LostPicture]) -> str:
    """Which files of pictures are missing or damaged, and what to do about them."""
    named = [f"“{p.prompt[:60]}”, seed {p.seed}, {p.arm}" for p in lost[:MOST_LOST]]
    more = f"; and {len(lost) - MOST_LOST} more" if len(lost) > MOST_LOST else ""
    return (
        f"{count(len(lost), 'picture')} {'is' if len(lost) == 1 else 'are'} missing or damaged on the disk: "
        f"{'; '.join(named)}{more}. "
        "Raters can skip these pairs. Press Render pictures to make them again."
    )


def draw_progress(studies: Studies, study: Study) -> str:
    """How much each rater has voted and which pairs need votes. Says nothing of who wins."""
    raters, pairs = studies.store.count_by_rater(study.id), studies.store.count_by_pair(study.id)
    each, moment = study.protocol.votes_per_pair, now()

    def ago(time: Any) -> str:
        return "–" if time is None else f"{duration(max(0.0, (moment - time).total_seconds()))} ago"

    long = [(len(rows), noun) for rows, noun in ((raters, "rater"), (pairs, "pair")) if len(rows) > MOST_ROWS]
    return fill_template(
        "studies/pages/progress.html",
        raters=[[r["id"][:8], r["kind"], r["done"], ago(r["last"])] for r in raters[:MOST_ROWS]],
        arms=[
            [
                f"{a['x']} and {a['y']}",
                a["pairs"],
                a["votes"],
                f"{a['fewest']}, {a['most']}",
                f"{a['lefts']}, {a['votes'] - a['lefts']}",
            ]
            for a in studies.store.count_by_arms(study.id)
        ],
        votes="votes" + (f" (of {each})" if each else ""),
        pairs=[[p["prompt"], f"{p['x']} and {p['y']}", p["votes"]] for p in pairs[:MOST_ROWS]],
        most=MOST_ROWS,
        over=[count(number, noun) for number, noun in long],
    )


def rater_page(core: Core) -> str:
    """The page that raters can open: with accounts, Gradio's own pages ask everybody to sign in."""
    return "ballot" if core.settings.accounts and not core.settings.demo else "vote"


def find_address(core: Core, request: gr.Request) -> str:
    """The address at which this browser reached the studio."""
    sent = request.request
    scheme = sent.url.scheme if sent is not None else "http"
    origin = request.headers.get("origin") or f"{scheme}://{request.headers['host']}"
    return origin + core.settings.root_path.rstrip("/")


def write_links(core: Core, study: Study, address: str) -> str:
    """The raters' links, one on each line."""
    if study.protocol.access == "invite":
        return "By invite link only: make them below."
    pages = dict.fromkeys((rater_page(core), "ballot"))
    return "\n".join(address + commands.link(study.id, page=page) for page in pages)


def warn_of_closed_doors(core: Core) -> str:
    """A hint where raters on other machines cannot reach this studio."""
    outside = core.settings.demo or core.settings.share or core.settings.root_path or core.settings.host_name
    if outside or core.settings.host not in ("127.0.0.1", "localhost", "::1"):
        return ""
    return hint(
        "Only this computer can open these links. To let others vote, start the studio with "
        "<code>--host 0.0.0.0</code> and <code style='white-space:nowrap'>--auth NAME:PASSWORD</code>: you "
        "sign in, and raters need no account."
    )


def _press(studies: Studies, study: Study | None) -> list[Any]:
    """The buttons of ACTIONS: which can be pressed now."""
    if study is None:
        return [gr.Button(interactive=False)] * len(ACTIONS)
    progress, rendering = studies.store.progress(study), studies.renders.progress(study.id)
    busy = rendering is not None and rendering.phase == "rendering"
    missing, can = progress.rendered < progress.pairs, NEXT[study.status]
    lost = bool(studies.watch.list_lost(study.id))
    possible = {
        "render": (missing or lost) and not busy,
        "stop": busy,
        "open": "open" in can and not missing and not busy,
        "close": "closed" in can,
        "archive": "archived" in can and not busy,
    }
    return [gr.Button(interactive=possible[what]) for what in ACTIONS]
