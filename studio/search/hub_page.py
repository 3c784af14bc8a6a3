"""Search on a Space where nothing runs in the background: as a job of the hub, of whoever starts it.

The job, its cost and the private repository with its result are the visitor's own. The studio keeps nothing
of it: each look brings the run's files into a folder that is gone when the page is answered.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup, escape

from calibri.errors import SearchError
from calibri.rewards.base import RewardLoading
from calibri.search.config import Budget
from calibri.search.hub_jobs import HubSearch, HubSearches
from studio.access.hub_token import HubToken, read_hub_token
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.rendering.arms import DESK
from studio.rendering.prompt_files import read_prompt_file
from studio.scales.edits import open_calibration
from studio.search import charts
from studio.search.fields import Fields, lay_out_fields
from studio.search.form import core_usual, open_start, read_budget, read_page, starts
from studio.search.hub_view import read_run, short_name, status_of
from studio.search.page import GO
from studio.search.view import card, generation_table, log_list
from studio.ui.elements import chart, empty, lead, primary_button
from studio.ui.errors import guard
from studio.ui.events import DIRECT, QUEUED, current_blocks, take_file, visitor_state, when_loaded, when_ready

TITLE, PATH = "Search", "/search"
LEAD = (
    "A search finds scales by itself. On this Space it runs as a job of your own hub account, which pays for "
    "the machine by the minute. Its journal and its result lie in a private repository of yours, and a "
    "search that was stopped goes on where it was."
)
SIGN_IN = (
    "Sign in with your hub account first, in a tab of its own (the Space's address ends in hf.space). The "
    "hub then asks you for the right to start jobs and to keep their results."
)
NO_SIGN_IN = "This Space has no sign-in with a hub account: its owner turns it on (hf_oauth in README.md)."
NOTHING_YET = "Your searches will appear here after signing in with your hub account."
FLAVORS = [
    ("Suits the backbone", ""),
    ("CPU: 8 cores", "cpu-upgrade"),
    ("T4, 16 GB", "t4-small"),
    ("L4, 24 GB", "l4x1"),
    ("L40S, 48 GB", "l40sx1"),
    ("A100, 80 GB", "a100-large"),
    ("H200, 141 GB", "h200"),
]
LOOK_EVERY = 30.0  # seconds
SPARE = 120.0  # seconds before the end of a token by which its job has ended

Connect = Callable[[str], HubSearches]


@dataclass(frozen=True)
class Parts:
    """What the handlers read and write."""

    visitor: gr.BrowserState
    fields: Fields
    flavor: gr.Dropdown
    start: gr.Button
    mine: gr.Dropdown
    acts: dict[str, gr.Button]
    shown: list[Any]  # card, reward, table, log


def build(core: Core, sweeps: Sweeps, connect: Connect = HubSearches) -> None:
    """Lay out the page inside the current Blocks. `connect(token)`: the hub as that account sees it."""
    parts = _lay_out(core, sweeps)
    HubHandlers(core, sweeps, connect).wire(parts)


def _lay_out(core: Core, sweeps: Sweeps) -> Parts:
    lead(LEAD, __file__, "search.css")
    usual = core_usual(core)
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            fields = lay_out_fields(core, sweeps, usual)
            flavor = gr.Dropdown(
                FLAVORS,
                value="",
                label="Machine",
                info="Prices: hf.co/docs/hub/jobs-pricing",
                elem_id="hub-flavor",
            )
            start = primary_button("Start as a job of mine", "start-hub-search")
        with gr.Column(scale=3, min_width=340):
            mine = gr.Dropdown(
                [],
                label="Your searches on the hub",
                info="Or type owner/name of a search's repository",
                allow_custom_value=True,
                elem_id="hub-searches",
            )
            shown = [gr.HTML(empty(NOTHING_YET), elem_id="hub-state")]
            with gr.Row():
                acts = {
                    name: gr.Button(words, size="sm", min_width=100, elem_id=f"hub-{name}")
                    for name, words in (
                        ("look", "Look now"),
                        ("resume", "Resume"),
                        ("stop", "Stop"),
                        ("scales", "Open in Scales"),
                    )
                }
            shown.append(chart(elem_id="hub-reward", height=340))
            shown += [gr.HTML("", elem_id="hub-table"), gr.HTML("", elem_id="hub-log")]
    return Parts(visitor_state(), fields, flavor, start, mine, acts, shown)


@dataclass(frozen=True)
class HubHandlers:
    """What people do with searches of theirs. The token comes with each request, and leaves with it."""

    core: Core
    sweeps: Sweeps
    connect: Connect

    def wire(self, parts: Parts) -> None:
        fields, one = parts.fields.all, [parts.mine]
        begun = [parts.mine, *parts.shown]
        parts.start.click(guard(self.on_start), [parts.visitor, parts.flavor, *fields], begun, **QUEUED)
        parts.acts["resume"].click(
            guard(self.on_resume), [parts.mine, parts.flavor, *fields], parts.shown, **QUEUED
        )
        parts.acts["stop"].click(guard(self.on_stop), one, parts.shown, **QUEUED)
        parts.acts["look"].click(guard(self.on_look), one, parts.shown, **QUEUED)
        parts.mine.input(guard(self.on_look), one, parts.shown, **QUEUED)
        opened = parts.acts["scales"].click(
            guard(self.on_scales), [parts.visitor, parts.mine], None, **QUEUED
        )
        opened.success(None, js=GO % "/scales", **DIRECT)
        gr.Timer(LOOK_EVERY).tick(guard(self.on_tick), one, parts.shown, **QUEUED, preprocess=False)
        when_loaded(parts.visitor)
        current_blocks().load(guard(self.on_load), None, begun, **QUEUED)
        by_name = parts.fields.by_name
        parts.fields.upload.upload(
            guard(self.on_upload),
            [parts.visitor, parts.fields.upload, by_name["granularity"]],
            by_name["start"],
            **QUEUED,
        )
        file = parts.fields.prompt_file
        file.upload(guard(read_prompt_file), file, by_name["prompts"], **QUEUED)
        when_ready(self.core.host, parts.visitor, self.on_ready, [], [by_name["start"]])

    # who it is

    def _token(self, request: gr.Request | None) -> HubToken:
        found = read_hub_token(request)
        if found is None:
            raise SearchError(SIGN_IN)
        return found

    def _hub(self, request: gr.Request | None, repo: object) -> tuple[HubSearches, str]:
        hub = self.connect(self._token(request).token)
        if not isinstance(repo, str) or repo.count("/") != 1:
            raise SearchError("Choose a search of yours first.")
        return hub, repo

    # what they do

    def on_start(self, visitor: object, flavor: object, request: gr.Request, *values: Any) -> list[Any]:
        from calibri.search.run import DEFAULT_BUDGET  # scipy

        token = self._token(request)
        config, budget, title = read_page(self.core, self.sweeps, visitor, Fields.read(values))
        config = config.model_copy(update={"reward_loading": RewardLoading()})  # that of another machine
        hub = self.connect(token.token)
        begun = hub.start(
            config,
            budget or DEFAULT_BUDGET,
            title=" ".join(title.split())[:80],
            flavor=_flavor(flavor),
            most_seconds=token.seconds - SPARE,
        )
        return [_choices(hub, begun.repo), *self._show(hub, begun)]

    def on_resume(self, repo: object, flavor: object, request: gr.Request, *values: Any) -> list[Any]:
        token = self._token(request)
        hub, name = self._hub(request, repo)
        budget = self._more(hub, name, read_budget(Fields.read(values)))
        left = token.seconds - SPARE
        return self._show(hub, hub.resume(name, flavor=_flavor(flavor), budget=budget, most_seconds=left))

    def _more(self, hub: HubSearches, repo: str, asked: Budget | None) -> Budget | None:
        """New limits for a search that has used its own up: as many images more as the form says."""
        with tempfile.TemporaryDirectory() as folder:
            found = hub.find(repo)
            hub.fetch(repo, Path(folder))
            run = read_run(found, Path(folder))
        if not run.over or asked is None or asked.images is None:
            return None
        return Budget(images=max(run.limits.images or 0, run.images) + asked.images)

    def on_stop(self, repo: object, request: gr.Request) -> list[Any]:
        hub, name = self._hub(request, repo)
        return self._show(hub, hub.stop(name))

    def on_look(self, repo: object, request: gr.Request) -> list[Any]:
        hub, name = self._hub(request, repo)
        return self._show(hub, hub.find(name))

    def on_tick(self, repo: object, request: gr.Request) -> list[Any]:
        """What changed by itself. Nothing is asked of the hub for a page without a search."""
        if not isinstance(repo, str) or not repo or read_hub_token(request) is None:
            return [gr.skip()] * 4
        return self.on_look(repo, request)

    def on_scales(self, visitor: object, repo: object, request: gr.Request) -> None:
        hub, name = self._hub(request, repo)
        with tempfile.TemporaryDirectory() as folder:
            found = hub.find(name)
            hub.fetch(name, Path(folder))
            calibration = read_run(found, Path(folder)).calibration()
        open_calibration(self.core, visitor, calibration)

    def on_load(self, request: gr.Request) -> list[Any]:
        token = read_hub_token(request)
        if token is None:
            offered = sign_in_html(self.core.signin.hub is not None)
            return [gr.Dropdown([], value=None), offered, None, "", ""]
        hub = self.connect(token.token)
        names = hub.list_repos()
        if not names:
            return [gr.Dropdown([], value=None), empty("You have no search on the hub yet."), None, "", ""]
        return [_choices(hub, names[0], names), *self._show(hub, hub.find(names[0]))]

    def on_upload(self, visitor: object, path: str, granularity: str) -> gr.Dropdown:
        gr.Info(escape(open_start(self.core, visitor, take_file(path), granularity)), duration=5)
        return gr.Dropdown(value=DESK)

    def on_ready(self, visitor: object) -> list[Any]:
        return [gr.Dropdown(starts(self.core, self.sweeps))]

    def _show(self, hub: HubSearches, found: HubSearch) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder:
            failure = hub.fetch(found.repo, Path(folder))
            run = read_run(found, Path(folder))
            link = Markup(
                "<div class='sub'><a href='{}' target='_blank' rel='noopener'>The job on the hub</a></div>"
            )
            below = link.format(found.note.url) if found.note.url.startswith("https://") else ""
            return [
                card(status_of(found, run, failure), run) + below,
                charts.reward_figure([run]) if run.generations else None,
                generation_table(run),
                log_list(run),
            ]


def sign_in_html(offered: bool) -> str:
    """The way in, for whoever is not signed in. `offered`: whether this Space has one."""
    if not offered:
        return empty(NO_SIGN_IN)
    link = "<a href='login/huggingface?for=jobs' target='_blank'>Sign in with Hugging Face</a>"
    return empty(SIGN_IN) + f"<div class='sub'>{link}</div>"


def _flavor(chosen: object) -> str:
    if chosen not in [flavor for _, flavor in FLAVORS]:
        raise SearchError("Machine: expected one of the list.")
    return str(chosen)


def _choices(hub: HubSearches, chosen: str, names: list[str] | None = None) -> gr.Dropdown:
    names = hub.list_repos() if names is None else names
    every = dict.fromkeys([chosen, *names])
    return gr.Dropdown([(short_name(name), name) for name in every], value=chosen)
