"""How often control passes from one room of the studio to another: `python -m benchmarks.hops`.

Prints JSON: for each journey of a person the hops, how many of them each handler makes, the number of rooms
touched, and the hops between each pair of rooms, both directions together.

A room is a file or folder right inside studio/; with `--rooms files`, a file anywhere below it. A hop is a
call of a function of one room while the nearest frame of the studio on the stack lies in another one: frames
of calibri, Gradio and other libraries in between are looked through. A generator that goes on is called once
more; returns do not count. Only the thread of a handler is watched: what it leaves to threads in the
background is no part of its journey, nor is what Gradio does before and after a handler.

The studio is the real one: a launched app with tabletop and a new data folder. Its handlers are found by the
elem_ids of the components and called over HTTP with the values that a browser would send. What happens only
once, such as the first picture of the base, happens before anything is counted.

slider: a slider of Scales is moved. render: a press of Render on Compare as it opens, after an earlier one:
three arms (on_render), and the two pictures over one another that follow (on_look). start: a press of Start
search, the first one. tick: a poll of the page Search, which shows that search when it is over; the model bar
has a poll of its own, which is not in it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

import studio
from tests.browser.running import PATIENCE, free_port

FOLDER = Path(studio.__file__).resolve().parent
# Where the studio is put together; the first that there is.
OPEN = ("studio.shell.app.open_studio", "studio.shell.app.open_services", "studio.services.open_services")
BUILD = ("studio.shell.app.build_app", "studio.ui.build_app")
LAUNCH = ("studio.shell.app.launch_options", "studio.ui.launch_options")
QUIET_SECONDS = 1.5  # without work in the background: then none is left


# counting


class Hops:
    """Counts hops on the threads that are inside `watch`.

    `files`: whether each file is a room. `pairs`: (from, to) → hops; `touched`: the rooms; `handlers`: name
    of a handler → hops in its calls.
    """

    def __init__(self, files: bool) -> None:
        self._files = files
        self._known: dict[str, str] = {}
        self.clear()

    def clear(self) -> None:
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.handlers: Counter[str] = Counter()
        self.touched: set[str] = set()

    def room_of(self, file: str) -> str:
        """The room that a source file lies in; empty outside of the studio."""
        if file not in self._known:
            inside = Path(file).is_relative_to(FOLDER)
            parts = Path(file).relative_to(FOLDER).parts if inside else ()
            self._known[file] = "/".join(parts if self._files else parts[:1])
        return self._known[file]

    @contextmanager
    def watch(self, handler: str) -> Iterator[None]:
        before = self.pairs.total()
        sys.setprofile(self._note)  # of this thread alone
        try:
            yield
        finally:
            sys.setprofile(None)
            self.handlers[handler] += self.pairs.total() - before

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        room = self.room_of(frame.f_code.co_filename)
        if not room:
            return
        self.touched.add(room)
        caller = frame.f_back
        while caller is not None and not self.room_of(caller.f_code.co_filename):
            caller = caller.f_back
        origin = self.room_of(caller.f_code.co_filename) if caller is not None else room
        if origin != room:
            self.pairs[origin, room] += 1

    def follow(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The same handler, watched. Raises TypeError for a coroutine: its thread is that of others too."""
        if inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler):
            raise TypeError(f"{handler}: expected a function or a generator, got a coroutine.")
        name = getattr(handler, "__name__", type(handler).__name__)

        @functools.wraps(handler)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            values = handler(*args, **kwargs)
            while True:
                with self.watch(name):
                    try:
                        value = next(values)
                    except StopIteration:
                        return
                yield value

        @functools.wraps(handler)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self.watch(name):
                return handler(*args, **kwargs)

        return stream if inspect.isgeneratorfunction(handler) else run

    def summary(self) -> dict[str, Any]:
        both: Counter[str] = Counter()
        for (origin, room), count in self.pairs.items():
            both[" ↔ ".join(sorted((origin, room)))] += count
        return {
            "hops": self.pairs.total(),
            "rooms": len(self.touched),
            "handlers": dict(self.handlers),
            "pairs": dict(sorted(both.items(), key=lambda pair: (-pair[1], pair[0]))),
        }


# the studio


def load(*places: str) -> Any:
    """The first of these `module.name` that this version of the studio has."""
    for place in places:
        module, _, name = place.rpartition(".")
        # Looked for as a file: an installed studio of another version would answer for a missing module.
        if FOLDER.parent.joinpath(*module.split(".")).with_suffix(".py").is_file():
            found = importlib.import_module(module)
            if hasattr(found, name):
                return getattr(found, name)
    raise SystemExit(f"Expected one of {', '.join(places)}, got none.")


@contextmanager
def run_studio(data: Path, hops: Hops) -> Iterator[tuple[Any, str, Any]]:
    """A launched studio whose handlers are watched: (app, address, model host)."""
    load("studio.settings.quieten")()
    settings = load("studio.settings.read_settings")(["--data", str(data), "--backbone", "tabletop"])
    opened = load(*OPEN)(settings)
    app = load(*BUILD)(opened).queue(default_concurrency_limit=8, api_open=False)
    for fn in app.fns.values():
        if fn.fn is not None:
            fn.fn = hops.follow(fn.fn)
    options = load(*LAUNCH)(opened)
    core = getattr(opened, "core", opened)
    _, url, _ = app.launch(server_port=free_port(), prevent_thread_lock=True, **options)
    try:
        core.start()
        core.host.wait_ready()
        yield app, url.rstrip("/"), core.host
    finally:
        app.close(verbose=False)
        opened.close()


def wait_for_rest(host: Any) -> None:
    """Wait until nothing has used the model for a moment."""
    began = since = time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        if host.status.activity or host.status.waiting:
            since = time.monotonic()
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"Expected an idle model, got {host.status.activity}.")
        time.sleep(0.05)


class Page:
    """A page as an open browser has it: it keeps the values of the components and calls their events.
    Components are named by their elem_id."""

    def __init__(self, app: Any, url: str, path: str) -> None:
        self._blocks, self._path = app.blocks, path
        self._fns = {n: fn for n, fn in app.fns.items() if fn.page == path and fn.fn is not None}
        self._client = httpx.Client(base_url=url, timeout=PATIENCE)
        self._session = secrets.token_hex(6)
        parts = app.config["components"]
        self._values: dict[int, Any] = {part["id"]: part["props"].get("value") for part in parts}
        for number in self._fns:
            if self._starts(number, "load"):
                self._call(number)

    def _starts(self, number: int, event: str, elem_id: str | None = None) -> bool:
        """Whether this event of a component starts the handler; None for any component."""
        sources = [self._blocks.get(source) for source, name in self._fns[number].targets if name == event]
        return any(elem_id is None or getattr(source, "elem_id", None) == elem_id for source in sources)

    def _only(self, numbers: Sequence[int], what: str) -> int:
        if len(numbers) != 1:
            raise SystemExit(f"/{self._path}: expected one {what}, got {len(numbers)}.")
        return numbers[0]

    def _component(self, elem_id: str) -> int:
        here = [n for n, b in self._blocks.items() if b.elem_id == elem_id and b.page == self._path]
        return self._only(here, f"component {elem_id}")

    def value(self, elem_id: str) -> Any:
        """What this component shows."""
        return self._values[self._component(elem_id)]

    def enter(self, elem_id: str, value: Any) -> None:
        """Type a value into this component."""
        self._values[self._component(elem_id)] = value

    def trigger(self, event: str, elem_id: str, event_data: Any = None) -> None:
        """Call the handler of an event of this component, and what follows it."""
        numbers = [n for n in self._fns if self._starts(n, event, elem_id)]
        self._call(self._only(numbers, f"{event} of {elem_id}"), event_data)

    def tick(self, elem_id: str) -> None:
        """Call the handler of the timer that fills this component."""
        fills = [n for n, fn in self._fns.items() if elem_id in [part.elem_id for part in fn.outputs]]
        self._call(self._only([n for n in fills if self._starts(n, "tick")], f"timer for {elem_id}"))

    def _call(self, number: int, event_data: Any = None) -> None:
        fn = self._fns[number]
        values = [self._values.get(part._id) for part in fn.inputs]
        for part, value in zip(fn.outputs, self._answer(number, values, event_data), strict=False):
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "value" not in value:
                    continue
                value = value["value"]
            self._values[part._id] = value
        for later, follower in self._fns.items():
            if follower.trigger_after == number:
                self._call(later)

    def _answer(self, number: int, values: list[Any], event_data: Any) -> list[Any]:
        """The values that the last answer of a handler holds."""
        body = {"data": values, "fn_index": number, "session_hash": self._session, "event_data": event_data}
        self._client.post("/gradio_api/queue/join", json=body).raise_for_status()
        query = {"session_hash": self._session}
        with self._client.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise SystemExit(f"/{self._path}: a handler failed: {message['output'].get('error')}")
                    return message["output"]["data"]
        raise SystemExit(f"/{self._path}: expected an answer of a handler, got none.")


# the journeys


def move_slider(page: Page, to: float) -> None:
    values = json.loads(page.value("desk"))["values"]
    payload = {"values": [to, *values[1:]], "sent": int(1000 * time.time()), "member": 0}
    page.trigger("release", "desk", payload)


def finish_search(page: Page) -> None:
    """Wait until the search that the page shows is over, and make the page show that."""
    began = time.monotonic()
    while "run-done" not in str(page.value("search-state")):
        if time.monotonic() - began > PATIENCE:
            raise SystemExit("Expected the search to end, got one that still runs.")
        time.sleep(1)
        page.tick("beat-card")
        page.trigger("change", "beat-card")


def measure(files: bool) -> dict[str, Any]:
    """Journey → hops. `files`: whether each file is a room."""
    hops, found = Hops(files), {}

    with tempfile.TemporaryDirectory() as scratch, run_studio(Path(scratch), hops) as (app, url, host):

        def count(name: str, journey: Callable[[], None]) -> None:
            wait_for_rest(host)
            hops.clear()
            journey()
            found[name] = hops.summary()

        scales = Page(app, url, "scales")
        scales.tick("desk")
        move_slider(scales, 1.1)
        count("slider", lambda: move_slider(scales, 1.2))
        compare = Page(app, url, "")
        compare.trigger("click", "render")
        count("render", lambda: compare.trigger("click", "render"))
        search = Page(app, url, "search")
        search.tick("search-start")
        search.enter("search-images", 100)  # a short one
        search.enter("search-steps", 1)
        count("start", lambda: search.trigger("click", "start-search"))
        finish_search(search)
        wait_for_rest(host)
        search.tick("beat-card")  # asks for the search's pictures
        wait_for_rest(host)
        search.tick("beat-card")
        count("tick", lambda: search.tick("beat-card"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hops", description=__doc__)
    parser.add_argument("--rooms", choices=("folders", "files"), default="folders", help="what a room is")
    given = parser.parse_args(arguments)
    found = {"rooms": given.rooms, "journeys": measure(given.rooms == "files")}
    print(json.dumps(found, indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
