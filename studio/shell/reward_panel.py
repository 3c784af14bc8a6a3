"""Rewards below the model bar: which fit the backbone, what each needs, what is loaded; load and unload."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from calibri.memory import bytes_in_use, free_bytes
from calibri.rewards.catalog import CATALOG
from calibri.words import data_size, duration
from studio.core import Core
from studio.machine.offers import SHOWN_FOR, find_need, fits, list_fitting
from studio.machine.queue import HostError
from studio.machine.rewards import RewardState
from studio.ui.elements import show_remark
from studio.ui.errors import guard
from studio.ui.events import DIRECT, IN_ORDER, QUEUED
from studio.ui.templates import fill_template

HERE = "here"


class Panel(NamedTuple):
    """`opener`: stands in the bar. `box`: what it opens."""

    opener: gr.Button
    box: gr.Column
    table: gr.HTML
    which: gr.Dropdown
    source: gr.Textbox
    load: gr.Button
    unload: gr.Button
    close: gr.Button
    told: gr.HTML


def lay_out_opener(visible: bool) -> gr.Button:
    """The button in the bar."""
    return gr.Button("Rewards", size="sm", scale=0, min_width=80, elem_id="open-rewards", visible=visible)


def lay_out_panel(opener: gr.Button) -> Panel:
    """The panel, closed, in the current Blocks."""
    with gr.Column(visible=False, elem_id="reward-panel") as box:
        table = gr.HTML("", elem_id="reward-table")
        with gr.Row(equal_height=True, elem_id="reward-row"):
            which = gr.Dropdown([], label="Reward", scale=2, min_width=180, elem_id="reward-name")
            source = gr.Textbox(
                label="Its weights",
                placeholder="empty: the published ones; or a folder here, or a hub id owner/name",
                max_lines=1,
                scale=4,
                min_width=260,
                elem_id="reward-source",
            )
            load = gr.Button("Load", scale=0, min_width=80, elem_id="reward-load")
            unload = gr.Button("Unload", scale=0, min_width=80, elem_id="reward-unload")
            close = gr.Button("Close", scale=0, min_width=80, elem_id="reward-close")
        told = gr.HTML("", elem_id="reward-told")
    return Panel(opener, box, table, which, source, load, unload, close, told)


def wire_panel(core: Core, panel: Panel) -> None:
    """Connect the panel. It asks every 1.5 s while it is open, and is drawn again only where something
    changed."""
    drawn, timer = gr.State(""), gr.Timer(1.5, active=False)

    @guard
    def on_open(request: gr.Request) -> list[Any]:
        core.rights.organisers_only(request)
        table = draw_table(core)
        names = list_names(core)
        return [gr.Column(visible=True), table, table, gr.Dropdown(names), "", gr.Timer(active=True)]

    @guard
    def on_load(name: object, source: object, request: gr.Request) -> list[Any]:
        told = load_reward(core, name, source, request)
        return [show_remark(told), draw_table(core), ""]

    @guard
    def on_unload(name: object, request: gr.Request) -> list[Any]:
        core.rights.organisers_only(request)
        return [show_remark(core.rewards.unload(need_name(core, name))), draw_table(core)]

    def look(last: str) -> list[Any]:
        now = draw_table(core)
        return [gr.skip(), gr.skip()] if now == last else [now, now]

    timer.tick(look, drawn, [panel.table, drawn], **DIRECT)
    shown = [panel.box, panel.table, drawn, panel.which, panel.told, timer]
    panel.opener.click(on_open, None, shown, **QUEUED)
    panel.load.click(on_load, [panel.which, panel.source], [panel.told, panel.table, panel.source], **QUEUED)
    # In the browser: an answer of the server could come when the next source is typed already.
    panel.which.input(None, None, [panel.source, panel.told], js="() => ['', '']", **IN_ORDER)
    panel.unload.click(on_unload, panel.which, [panel.told, panel.table], **QUEUED)
    closed = [gr.Column(visible=False), gr.Timer(active=False)]
    panel.close.click(lambda: closed, None, [panel.box, timer], **DIRECT)


# what is done and said, without a page


def list_names(core: Core) -> list[str]:
    """Rewards that fit the backbone, and others that are loaded."""
    loaded = [state.name for state in core.rewards.states()]
    return list(dict.fromkeys([*list_fitting(core.backbone_name), *loaded]))


def need_name(core: Core, name: object) -> str:
    """The name that a page sent. Raises HostError for none of the list."""
    if not isinstance(name, str) or name not in list_names(core):
        raise HostError("Choose a reward of the list first.")
    return name


def load_reward(core: Core, name: object, source: object, request: gr.Request | None) -> str:
    """Begin to load a reward, and say so.

    Raises CalibriError for whoever may not, HostError without a backbone, RewardError while another one loads
    and for what is missing.
    """
    core.rights.organisers_only(request)
    text = str(source or "").strip()
    if text and not core.rights.may_organise(request):
        raise HostError(
            "Other machines can reach this studio: only its organisers may name weights, after signing in."
        )
    found = need_name(core, name)
    backbone = core.host.backbone
    if backbone is None:
        raise HostError("The backbone is still loading. Load rewards when it is ready.")
    core.rewards.begin_loading(found, str(backbone.device), text)
    shown = fits(found, backbone.spec.name) and found not in SHOWN_FOR.get(backbone.spec.name, ())
    after = " Its scores appear under new pictures when it is ready." if shown else ""
    return f"{found} is loading.{after}"


def describe_rewards(core: Core) -> str:
    """For the model bar: what loads, what could not be loaded, and what is in memory."""
    states, world = core.rewards.states(), f"{core.backbone_name}-"
    ready = [state.name.removeprefix(world) for state in states if state.phase == "ready"]
    parts = [_describe_loading(core, state) for state in states if state.phase == "loading"]
    parts += [f"{state.name} could not be loaded" for state in states if state.phase == "failed"]
    parts += [f"rewards: {', '.join(dict.fromkeys(ready))}"] if ready else []
    return "; ".join(parts)


def _describe_loading(core: Core, state: RewardState) -> str:
    waited = duration(max(0.0, time.monotonic() - state.started))
    spec = CATALOG.get(state.name)
    source = state.key.source or (spec.source if spec is not None else "")
    size = 0
    if source.count("/") == 1 and not source.startswith(("/", ".", "~")):
        from huggingface_hub.constants import HF_HUB_CACHE  # the hub's own setting

        size = downloaded(source.partition("@")[0], Path(HF_HUB_CACHE))
    return f"loading {state.name} for {waited}{f', {data_size(size)} of it here' if size else ''}"


def downloaded(hub_id: str, cache: Path) -> int:
    """Bytes of this model in the hub's cache folder, those of unfinished files included."""
    folder = cache / f"models--{hub_id.replace('/', '--')}" / "blobs"
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def draw_table(core: Core) -> str:
    """The rewards that fit, what each needs, and what is loaded, as HTML."""
    backbone = core.host.backbone
    device = str(backbone.device) if backbone is not None else "cpu"
    where = device if core.rewards.loading.device == "auto" else core.rewards.loading.device
    used, free = bytes_in_use(where), free_bytes(where)
    memory = f"On {where}: about {_rounded(used)} in use" + (f", {_rounded(free)} free." if free else ".")
    rows = [_describe_row(core, name, where) for name in list_names(core)]
    rows.sort(key=lambda row: (not row["state"], not row["weights"].endswith(HERE)))
    return fill_template("shell/rewards.html", memory=memory, rows=rows)


def _rounded(size: float) -> str:
    """Bytes for people, without the small changes that would draw the table again and again."""
    return data_size(float(f"{size:.1g}") if size < 1e9 else round(size, -8))


def _describe_row(core: Core, name: str, device: str) -> dict[str, str]:
    need, spec = find_need(name, core.rewards.loading, device.startswith("cuda")), CATALOG.get(name)
    if need.missing:
        weights = f"needs {', '.join(need.missing)}"
    elif not need.place:
        weights = "come along" if spec is not None else "of a package"
    elif need.there:
        weights = f"{need.place}: {HERE}"
    else:
        weights = f"{need.place}: {f'about {data_size(need.download)} ' if need.download else ''}to download"
    return {
        "name": name,
        "summary": spec.summary if spec is not None else "",
        "weights": weights,
        "memory": f"about {data_size(need.memory)}" if need.memory else "",
        "state": " · ".join(_describe_state(core, state) for state in core.rewards.find_states(name)),
    }


def _describe_state(core: Core, state: RewardState) -> str:
    if state.phase == "loading":
        return _describe_loading(core, state)
    if state.phase == "failed":
        return f"not loaded: {state.error}"
    dtype = "" if state.key.dtype == "auto" else f", {state.key.dtype}"
    source = f", weights of {state.source}" if state.source else ""
    users = f"; used by {', '.join(dict.fromkeys(state.users))}" if state.users else ""
    return f"loaded on {state.key.device}{dtype}{source}: {state.grown}{users}"
