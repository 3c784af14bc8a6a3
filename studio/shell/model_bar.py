"""The model bar over all pages: which backbone, what the machine does now, and how to change it."""

from __future__ import annotations

import html
import time
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from calibri.backbones.catalog import CATALOG, resolve
from calibri.errors import BackboneError
from calibri.words import duration, shown_name, without_paths
from studio.core import Core
from studio.machine.background import Background
from studio.machine.host import HostStatus
from studio.machine.queue import HostError
from studio.scales.edits import get_place
from studio.search.jobs import Searches
from studio.ui.elements import show_remark
from studio.ui.errors import guard
from studio.ui.events import DIRECT, QUEUED, switch_signal, visitor_state

IDLE = "idle"
ASKED = "a name of the list, a hub id (owner/name) or a folder with a diffusers pipeline"


def bar_html(status: HostStatus, *extra: str, account: str = "") -> str:
    """The state of the machine in one line. `extra`: more words, the backbone's first, then the searches that
    run. `account`: HTML made here."""
    name = html.escape(status.backbone or "no backbone")
    detail = html.escape(status.detail)
    if status.phase == "ready":
        state = f"<span class='ready'><span class='dot'></span><span class='name'>{name}</span> ready</span>"
        state += f"<span class='quiet'>on {html.escape(status.device)}</span>" if status.device else ""
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
    """What else the bar says: this visitor's scales, a download under way, the searches that run."""
    backbone, status = core.host.backbone, core.host.status
    scales = loading = ""
    if status.phase == "loading":
        loading = progress(core)
    elif backbone is not None:
        desk = get_place(core, visitor).desk
        level = desk.layout.granularity if desk is not None else "layer"
        scales = f"{len(backbone.layout(level).names)} scales, one a {level}"
    if core.settings.no_search:
        return scales, loading, "no searches here: nothing runs in the background"
    return scales, loading, searches.busy_words() if searches is not None else ""


def account_html(core: Core, username: str | None) -> str:
    """The way in and out of a public studio."""
    if not core.settings.demo:
        return ""
    text = f"{html.escape(username)}: sign out" if username else "Organisers: sign in"
    return f"<a class='account' href='signin' target='_top'>{text}</a>"


def model_bar(core: Core, searches: Searches | None) -> None:
    """Lay the bar out on the current page. It asks every 1.5 s and redraws only when something changed.
    `searches`: None where nothing runs in the background."""
    host, visitor, marker = core.host, visitor_state(), switch_signal()
    demo = core.settings.demo
    with gr.Row(elem_id="model-row", equal_height=True):
        bar = gr.HTML(bar_html(host.status), elem_id="model-bar", min_width=240)
        change = gr.Button(
            "Change backbone", size="sm", scale=0, min_width=130, elem_id="change-backbone", visible=not demo
        )
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
        close = gr.Button("Close", scale=0, min_width=80, elem_id="close-backbones")
    told = gr.HTML("", elem_id="backbone-told")
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
        now = draw(visitor_id, request)
        return [
            now,
            now,
            host.status.loads,
            gr.Button(visible=not demo or bool(core.rights.username(request))),
        ]

    timer.tick(look, [drawn, loads, visitor], [bar, drawn, loads, marker, told], **DIRECT)
    assert Context.root_block is not None  # pages are laid out inside one
    Context.root_block.load(opened, [visitor], [bar, drawn, loads, change], **DIRECT)

    @guard
    def open_chooser(request: gr.Request) -> list[Any]:
        core.rights.organisers_only(core.rights.username(request))
        names = offered(core)
        now = host.status.backbone
        return [gr.Row(visible=True), gr.Dropdown(names, value=now if now in names else None), ""]

    @guard
    def load_chosen(name: object, request: gr.Request) -> list[Any]:
        return [gr.Row(visible=False), show_remark(switch(core, name, core.rights.username(request)))]

    shared = {**QUEUED, "concurrency_limit": 8, "concurrency_id": "backbone"}
    change.click(open_chooser, None, [chooser, which, told], **shared)
    load.click(load_chosen, which, [chooser, told], **shared)
    close.click(lambda: [gr.Row(visible=False), ""], None, [chooser, told], **DIRECT)
    marker.change(lambda: "", None, told, **DIRECT)


def offered(core: Core) -> list[str]:
    """Names to choose from: the catalogue's, and what else this studio has loaded since its start."""
    return [*CATALOG, *(name for name in core.host.known if name not in CATALOG)]


def switch(core: Core, name: object, username: str | None) -> str:
    """Begin to load it, and say so. The one before is unloaded first, but not for a name that leads nowhere.

    Raises CalibriError for whoever may not, BackboneError for what is no backbone, HostError while a search
    or another load uses the model.
    """
    core.rights.organisers_only(username)
    if not isinstance(name, str) or not name.strip():
        raise HostError(f"Expected {ASKED}.")
    text = name.strip()
    source = core.host.known.get(text, text)
    if text not in offered(core) and not core.rights.may_organise(username):
        raise HostError(
            "Other machines can reach this studio: only its organisers may load what is not in the list, "
            "after signing in."
        )
    try:
        spec = resolve(source)
    except BackboneError as error:
        raise BackboneError(without_paths(str(error))) from None
    status, loaded = core.host.status, core.host.backbone
    if status.phase == "ready" and loaded is not None and loaded.spec.source == spec.source:
        raise HostError(f"{spec.name} is loaded already.")
    core.host.load(source)
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


def downloaded(hub_id: str, cache: Path) -> int:
    """Bytes of this model in the hub's cache folder, those of unfinished files included."""
    folder = cache / f"models--{hub_id.replace('/', '--')}" / "blobs"
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
