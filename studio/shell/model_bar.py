"""The model bar over all pages: which backbone, what the machine does now, and how to change it."""

from __future__ import annotations

import html
import time
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from calibri.backbones.catalog import CATALOG, resolve
from calibri.backbones.options import LoadOptions
from calibri.errors import BackboneError
from calibri.words import duration, shown_name, without_paths
from studio.core import Core
from studio.machine.background import Background
from studio.machine.host import HostStatus
from studio.machine.queue import HostError
from studio.scales.edits import find_desk
from studio.search.jobs import Searches
from studio.shell.advice import advice_html
from studio.shell.load_settings import lay_out_settings, read_settings, show_settings
from studio.shell.reward_panel import (
    describe_rewards,
    downloaded,
    lay_out_opener,
    lay_out_panel,
    wire_panel,
)
from studio.ui.elements import show_remark
from studio.ui.errors import guard
from studio.ui.events import DIRECT, IN_ORDER, QUEUED, switch_signal, visitor_state

IDLE = "idle"
ASKED = "a name of the list, a hub id (owner/name) or a folder with a diffusers pipeline"


def bar_html(status: HostStatus, *extra: str, account: str = "") -> str:
    """The state of the machine in one line. `extra`: more words, the backbone's first, then the searches that
    run. `account`: HTML made here."""
    name = html.escape(status.backbone or "no backbone")
    detail = html.escape(status.detail)
    if status.phase == "ready":
        state = f"<span class='ready'><span class='dot'></span><span class='name'>{name}</span> ready</span>"
        where = ", ".join(filter(None, (status.device, status.mode)))
        state += f"<span class='quiet'>on {html.escape(where)}</span>" if where else ""
    elif status.phase == "loading":
        waited = duration(max(0.0, time.monotonic() - status.started))
        state = (
            f"<span class='loading'><span class='dot'></span>loading <span class='name'>{name}</span></span>"
            f"<span class='quiet'>{f'{detail}, ' if detail else ''}for {waited}; "
            "you can already type and look around</span>"
        )
    elif status.phase == "failed":
        state = (
            f"<span class='failed'><span class='dot'></span><span class='name'>{name}</span> "
            f"is not loaded: {detail}</span>"
        )
    else:
        state = "<span class='quiet'><span class='dot'></span>no backbone loaded</span>"
    doing = f"now: {status.activity}" if status.activity else IDLE
    if status.waiting:
        doing += f", {status.waiting} waiting"
    memory = f"{status.memory} of memory" if status.memory else ""
    shown = [detail if status.phase == "ready" else "", *extra[:1], memory, doing, *extra[1:]]
    more = "".join(f"<span class='quiet'>{html.escape(part)}</span>" for part in shown if part)
    return f"<div class='model-bar'><span role='status'>{state}</span>{more}{account}</div>"


def words(core: Core, searches: Searches | None, visitor: object) -> tuple[str, ...]:
    """What else the bar says: this visitor's scales, a download under way, rewards, the searches that run."""
    backbone, status = core.host.backbone, core.host.status
    scales = loading = ""
    if status.phase == "loading":
        loading = progress(core)
    elif backbone is not None:
        desk = find_desk(core, visitor)
        level = desk.layout.granularity if desk is not None else "layer"
        scales = f"{len(backbone.layout(level).names)} scales, one a {level}"
    if core.settings.no_search:
        return scales, loading, describe_rewards(core), "no searches here: nothing runs in the background"
    return scales, loading, describe_rewards(core), searches.busy_words() if searches is not None else ""


def account_html(core: Core, username: str | None) -> str:
    """The way in and out of a studio with accounts."""
    if not core.signin.has_door:
        return ""
    text = f"{html.escape(username)}: sign out" if username else "Organisers: sign in"
    return f"<a class='account' href='signin' target='_top'>{text}</a>"


def model_bar(core: Core, searches: Searches | None) -> None:
    """Lay the bar out on the current page. It asks every 1.5 s and redraws only when something changed.
    `searches`: None where nothing runs in the background."""
    host, marker, demo = core.host, switch_signal(), core.settings.demo
    with gr.Row(elem_id="model-row", equal_height=True):
        bar = gr.HTML(bar_html(host.status), elem_id="model-bar", min_width=240)
        change = gr.Button(
            "Change backbone", size="sm", scale=0, min_width=130, elem_id="change-backbone", visible=not demo
        )
        rewards = lay_out_opener(visible=not demo)
    with gr.Row(visible=False, elem_id="backbones", equal_height=True) as chooser:
        which = gr.Dropdown(
            offered(core),
            value=None,
            label="Backbone for everybody at this studio",
            info="Or type a hub id (owner/name) or a folder. Hub models are downloaded at first use.",
            allow_custom_value=True,
            scale=4,
            min_width=260,
            elem_id="backbone",
        )
        load = gr.Button("Load", scale=0, min_width=90, elem_id="load-backbone")
        back = gr.Button("Load the last one again", scale=0, visible=False, elem_id="load-last")
        close = gr.Button("Close", scale=0, min_width=80, elem_id="close-backbones")
    settings = lay_out_settings(host.options)
    told = gr.HTML("", elem_id="backbone-told")
    advised = gr.HTML("", elem_id="backbone-advice")
    wire_panel(core, lay_out_panel(rewards))
    _keep_drawn(core, searches, bar, told, [change, rewards])

    @guard
    def open_chooser(request: gr.Request) -> list[Any]:
        core.rights.organisers_only(request)
        names = offered(core)
        now = host.status.backbone
        chosen = gr.Dropdown(names, value=now if now in names else None)
        return [gr.Row(visible=True), chosen, "", offer_last(core), *show_settings(core)]

    @guard
    def load_chosen(request: gr.Request, name: object, *values: Any) -> list[Any]:
        options = read_settings(core, values)
        return [*hidden(), show_remark(switch(core, name, request, options))]

    @guard
    def load_last(request: gr.Request) -> list[Any]:
        return [*hidden(), show_remark(bring_back(core, request))]

    @guard
    def advise_on(name: object, request: gr.Request) -> str:
        core.rights.organisers_only(request)
        return advice_html(core, name)

    shared = {**QUEUED, "concurrency_limit": 8, "concurrency_id": "backbone"}
    shown = [chooser, settings.fold]
    change.click(open_chooser, None, [chooser, which, told, back, settings.fold, *settings.fields], **shared)
    which.input(advise_on, which, advised, **IN_ORDER)
    load.click(load_chosen, [which, *settings.fields], [*shown, told], **shared).then(
        lambda: "", None, advised, **DIRECT
    )
    back.click(load_last, None, [*shown, told], **shared)
    close.click(lambda: [*hidden(), "", ""], None, [*shown, told, advised], **DIRECT)
    marker.change(lambda: "", None, told, **DIRECT)


def _keep_drawn(
    core: Core, searches: Searches | None, bar: gr.HTML, told: gr.HTML, guarded: list[gr.Button]
) -> None:
    """The bar as things stand, again where they change. `guarded`: buttons that a public studio shows to
    those who are signed in."""
    host, visitor, marker = core.host, visitor_state(), switch_signal()
    drawn, loads = gr.State(""), gr.State(0)
    timer = gr.Timer(1.5)

    def draw(visitor_id: object, request: gr.Request) -> str:
        account = account_html(core, core.rights.username(request))
        return bar_html(host.status, *words(core, searches, visitor_id), account=account)

    def look(last: str, known: int, visitor_id: object, request: gr.Request) -> list[Any]:
        """Bar, what it shows, the loads that this page has seen, the marker that its parts follow, and the
        remark, which a failed load ends."""
        now = draw(visitor_id, request)
        count = host.status.loads
        other = count != known
        return [
            *([gr.skip(), gr.skip()] if now == last else [now, now]),
            count if other else gr.skip(),
            str(count) if other and known else gr.skip(),
            "" if now != last and host.status.phase == "failed" else gr.skip(),
        ]

    def opened(visitor_id: object, request: gr.Request) -> list[Any]:
        now, may = draw(visitor_id, request), not core.settings.demo or bool(core.rights.username(request))
        return [now, now, host.status.loads, gr.Button(visible=may), gr.Button(visible=may)]

    timer.tick(look, [drawn, loads, visitor], [bar, drawn, loads, marker, told], **DIRECT)
    assert Context.root_block is not None  # pages are laid out inside one
    Context.root_block.load(opened, [visitor], [bar, drawn, loads, *guarded], **DIRECT)


def offered(core: Core) -> list[str]:
    """Names to choose from: the catalogue's, and what else this studio has loaded since its start."""
    return [*CATALOG, *(name for name in core.host.known if name not in CATALOG)]


def hidden() -> list[Any]:
    """The row and the fold, out of sight."""
    return [gr.Row(visible=False), gr.Accordion(visible=False)]


def offer_last(core: Core) -> gr.Button:
    """The button that brings back the backbone that was there before a load failed."""
    last = core.host.last
    lost = core.host.status.phase == "failed" and last is not None
    words = f"Load {shown_name(last[0])} again" if last is not None else "Load the last one again"
    return gr.Button(words, visible=lost)


def bring_back(core: Core, request: gr.Request | None) -> str:
    """Begin to load the last backbone that was ready, as it was. Raises HostError where there was none."""
    core.rights.organisers_only(request)
    if core.host.last is None:
        raise HostError("No backbone was loaded before. Choose one.")
    name, options = core.host.last
    return _begin(core, name, options)


def switch(core: Core, name: object, request: gr.Request | None, options: LoadOptions | None = None) -> str:
    """Begin to load it, and say so. `options`: None for those of the last load. The one before is unloaded,
    but not for what can be told to fail.

    Raises CalibriError for whoever may not, BackboneError for what is no backbone, HostError while a search
    or another load uses the model.
    """
    core.rights.organisers_only(request)
    if not isinstance(name, str) or not name.strip():
        raise BackboneError(f"Expected {ASKED}.")
    text = name.strip()
    source = core.host.known.get(text, text)
    if text not in offered(core) and not core.rights.may_organise(request):
        raise HostError(
            "Other machines can reach this studio: only its organisers may load what is not in the list, "
            "after signing in."
        )
    try:
        spec = resolve(source)
    except BackboneError as error:
        raise BackboneError(without_paths(str(error))) from None
    status, loaded = core.host.status, core.host.backbone
    how = core.host.options if options is None else options
    same = loaded is not None and loaded.spec.source == spec.source and how == core.host.options
    if status.phase == "ready" and same:
        raise HostError(f"{spec.name} is loaded already.")
    fetched = how.transformer or how.loras or "hub" in how.attention
    if fetched and how != core.host.options and not core.rights.may_organise(request):
        raise HostError("Other machines can reach this studio: only its organisers may name files to load.")
    return _begin(core, source, how)


def _begin(core: Core, source: str, options: LoadOptions) -> str:
    core.host.load(source, options)
    Background("load-rewards").start(core.warm)
    return f"{shown_name(source)} is loading. The pages follow when it is ready."


def progress(core: Core) -> str:
    """What is known of a download under way; empty for a backbone of this machine."""
    source = core.host.known.get(core.backbone_name, "")
    spec = CATALOG.get(source)
    source = spec.source if spec is not None else source
    if source.count("/") != 1 or source.startswith(("/", ".", "~")):
        return ""
    from huggingface_hub.constants import HF_HUB_CACHE  # the hub's own setting

    size = downloaded(source, Path(HF_HUB_CACHE))
    return f"{size / 1e9:.1f} GB of it on this machine" if size else "asking the hub"
