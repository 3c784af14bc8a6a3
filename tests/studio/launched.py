"""A launched studio over the tiny pipeline, and calls of its events as a browser makes them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from calibri.calibration.artifact import Calibration, Member
from studio.calibrations import CalibrationStore
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.host import ModelHost
from studio.machine.rewards import RewardModels
from studio.machine.speed import Pace
from studio.search.jobs import Searches
from studio.settings import HubApp, Settings
from studio.shell.app import Studio, build_app, launch_options
from studio.shell.lanes import open_queue
from studio.studies.studies import open_studies
from tests.browser.running import free_port

PATIENCE = 240.0


@dataclass
class Launched:
    """A running app; `client` keeps cookies as a browser does."""

    url: str
    studio: Studio
    app: Any

    @property
    def core(self) -> Core:
        return self.studio.core

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE)

    def indices(self, name: str) -> list[int]:
        """Numbers of the events whose handler has this name, private ones too."""
        return [number for number, fn in self.app.fns.items() if getattr(fn.fn, "__name__", "") == name]

    def call(self, client: httpx.Client, fn_index: int, data: list[Any] | None = None) -> tuple[bool, Any]:
        """Call an event by its number through the queue. (whether it worked, its data or its error)."""
        if data is None:
            data = [None] * len(self.app.fns[fn_index].inputs)
        session = secrets.token_hex(6)
        body = {"data": data, "fn_index": fn_index, "session_hash": session, "event_data": {}}
        answer = client.post("/gradio_api/queue/join", json=body)
        if answer.status_code != 200:
            return False, answer.text
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    output = message["output"]
                    return message["success"], output.get("data", output.get("error"))
        raise AssertionError("the stream ended without an answer")


@contextmanager
def launched(
    folder: Path, host: ModelHost, hub_app: HubApp | None = None, *, space: bool = False, **settings: Any
) -> Iterator[Launched]:
    """A studio with searches, studies, one calibration and one ensemble at layer granularity. `space`: where
    nothing runs in the background, searches are jobs of their visitors."""
    layout = host.wait_ready().layout("layer")
    bent = tuple(0.6 + 0.1 * i for i in range(len(layout.names)))
    ones = Member(scales=(1.0,) * len(bent), weight=-0.5, condition="negative")
    for title, members in (
        ("Bent", (Member(scales=bent),)),
        ("Pair", (Member(scales=bent, weight=1.5), ones)),
    ):
        Calibration(
            title=title, backbone="tiny", granularity="layer", names=layout.names, members=members
        ).save(folder / "built-in" / f"{title.lower()}.json")
    data = folder / "data"
    rewards = RewardModels()
    searches = None if settings.get("no_search") else Searches(host, data / "runs", folder, rewards)
    core = Core(
        settings=Settings(backbone="tiny", data=data, **settings),
        host=host,
        calibrations=CalibrationStore(folder / "built-in", data / "calibrations"),
        rewards=rewards,
        assets=folder,
        hub_app=hub_app,
    )
    studio = Studio(
        core,
        open_studies(data, host),
        searches,
        searches and Sweeps(data / "sweeps", host, pace=searches.pace, rewards=core.rewards),
        starts=Sweeps(data / "sweeps", host, pace=Pace(host), rewards=core.rewards) if space else None,
    )
    app = open_queue(build_app(studio), core)
    _, url, _ = app.launch(server_port=free_port(), prevent_thread_lock=True, **launch_options(studio))
    try:
        yield Launched(url.rstrip("/"), studio, app)
    finally:
        app.close(verbose=False)
        studio.close()
