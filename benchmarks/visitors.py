"""Many visitors of a public studio on Compare while a search runs, over real HTTP.

    python -m benchmarks.visitors                                # 100 visitors, 10 minutes
    python -m benchmarks.visitors --visitors 20 --minutes 1

Printed as JSON; the exit code is 1 where it is not `ok`: every request of a visitor was answered by pictures
or by a sentence that says when to try again, the organiser's clicks took at most one second at the 95th
percentile, and the server's memory did not grow after the first minute by more than a tenth.

A visitor has a cookie of its own, asks for a comparison (base, calibrated, ensemble at 8 steps), looks at it
for a random time (exponential, `--think` seconds in the mean), and asks again; who was told to wait waits as
told. `waits`: seconds until pictures came; `told`: requests that were answered by a time. The organiser
clicks all the time: the page itself, the search's status, the list of calibrations, one of them. `render`
beside it: seconds until the organiser's own picture came. `memory MB`: of the server's process, each minute.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.processes import cpu_seconds, settle
from tests.browser.running import Studio, running_studio

PROMPTS = "red cube", "blue sphere", "green cone", "yellow can", "two red spheres", "a purple cube"
CLICK = 1.0  # s, of the organiser, at the 95th percentile
GROWTH = 1.1  # of memory after the first minute
TIME = re.compile(r"(\d+) seconds?|a minute")
ACCOUNT = "organiser", "benchmark"


@dataclass
class Tally:
    """What was seen. Seconds, but for counts and the texts of `unanswered`."""

    waits: list[float] = field(default_factory=list)
    told: int = 0
    unanswered: list[str] = field(default_factory=list)
    clicks: list[float] = field(default_factory=list)
    renders: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


async def call(client: httpx.AsyncClient, name: str, *values: Any) -> Any:
    """What the endpoint of this name answers. Raises RuntimeError with its sentence for an error."""
    answer = await client.post(f"/gradio_api/call/{name}", json={"data": values})
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code} {answer.text[:200]}")
    event = ""
    async with client.stream("GET", f"/gradio_api/call/{name}/{answer.json()['event_id']}") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event:"):
                event = line[6:].strip()
            elif line.startswith("data:") and event == "complete":
                return json.loads(line[5:])
            elif line.startswith("data:") and event == "error":
                raise RuntimeError(line[5:].strip())
    raise RuntimeError("the stream ended without an answer")


async def visit(url: str, number: int, think: float, end: float, tally: Tally) -> None:
    """One visitor, until `end`."""
    generator = np.random.default_rng(number)
    await asyncio.sleep(float(generator.uniform(0, think)))
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        await client.get("/")
        while time.monotonic() < end:
            prompt = f"{generator.choice(PROMPTS)} number {generator.integers(1000)}"
            began, pause = time.monotonic(), float(generator.exponential(think))
            try:
                await call(client, "compare", prompt, int(generator.integers(10_000)), 8, 1.0, "layer")
                tally.waits.append(time.monotonic() - began)
            except RuntimeError as error:
                if found := TIME.search(str(error)):
                    tally.told += 1
                    pause = float(found[1] or 60)
                else:
                    tally.unanswered.append(str(error)[:200])
            except httpx.HTTPError as error:
                tally.unanswered.append(f"{type(error).__name__} {error}"[:200])
            await asyncio.sleep(min(pause, max(0.0, end - time.monotonic())))


async def organise(client: httpx.AsyncClient, run: str, end: float, tally: Tally) -> None:
    """The organiser: one click a second, and a picture now and then."""
    [known] = await call(client, "list_calibrations")
    clicks = [
        lambda: client.get("/"),
        lambda: call(client, "search_status", run),
        lambda: call(client, "list_calibrations"),
        lambda: call(client, "get_calibration", known[0]["id"]),
    ]
    number = 0
    while time.monotonic() < end:
        began = time.monotonic()
        await clicks[number % len(clicks)]()
        tally.clicks.append(time.monotonic() - began)
        if number % 20 == 0:
            began = time.monotonic()
            await call(client, "render", "red cube", number, 8, 1.0, "")
            tally.renders.append(time.monotonic() - began)
        number += 1
        await asyncio.sleep(1)


async def weigh(process: psutil.Process, end: float, tally: Tally) -> None:
    """The server's memory in MB, each minute."""
    while True:
        tally.memory.append(round(process.memory_info().rss / 1e6))
        if time.monotonic() >= end:
            return
        await asyncio.sleep(min(60.0, max(0.01, end - time.monotonic())))


async def load(studio: Studio, visitors: int, minutes: float, think: float) -> tuple[Tally, Any]:
    """All of them at once. Returns what was seen and how the search stood at the end."""
    tally = Tally()
    async with httpx.AsyncClient(base_url=studio.url, timeout=300, follow_redirects=True) as client:
        answer = await client.post("/login", data={"username": ACCOUNT[0], "password": ACCOUNT[1]})
        answer.raise_for_status()
        [run] = await call(client, "start_search", "layer", ["tabletop-quality"], 8, 1_000_000, 0, "load", [])
        end = time.monotonic() + 60 * minutes
        process = psutil.Process(studio.process.pid)
        people = [visit(studio.url, i, think, end, tally) for i in range(visitors)]
        await asyncio.gather(organise(client, run, end, tally), weigh(process, end, tally), *people)
        [state] = await call(client, "search_status", run)
    return tally, state


@contextlib.contextmanager
def public_studio(folder: Path) -> Iterator[Studio]:
    """A studio in demo mode with one account and a loaded backbone."""
    with running_studio(folder, "--demo", "--auth", ":".join(ACCOUNT)) as studio:
        with httpx.Client(base_url=studio.url, timeout=300) as client:  # waits until the backbone is there
            event = client.post("/gradio_api/call/compare", json={"data": ["red cube", 0, 8, 1.0, "layer"]})
            client.get(f"/gradio_api/call/compare/{event.json()['event_id']}")
        settle(studio.process.pid)
        yield studio


def spread(seconds: list[float]) -> dict[str, float]:
    """Percentiles and how many."""
    found = {f"p{q}": round(float(np.percentile(seconds, q)), 3) for q in (50, 95, 100)} if seconds else {}
    return {**found, "n": len(seconds)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--visitors", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--think", type=float, default=20, help="seconds of looking, in the mean")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, public_studio(Path(folder)) as studio:
        before = cpu_seconds(studio.process.pid)
        tally, state = asyncio.run(load(studio, given.visitors, given.minutes, given.think))
        cpu = cpu_seconds(studio.process.pid) - before
        tracebacks = studio.text().count("Traceback")
    later = tally.memory[1:-1] or tally.memory
    flat = max(later) <= GROWTH * later[0]
    clicks = spread(tally.clicks)
    fine = flat and not tally.unanswered and not tracebacks and clicks.get("p95", 0) <= CLICK
    print(
        json.dumps(
            {
                "ok": fine,
                "visitors": given.visitors,
                "minutes": given.minutes,
                "pictures after s": spread(tally.waits),
                "told when": tally.told,
                "unanswered": len(tally.unanswered),
                "the first of them": tally.unanswered[:3],
                "organiser's clicks s": clicks,
                "organiser's render s": spread(tally.renders),
                "memory MB": tally.memory,
                "images of the search": state.get("images"),
                "server's CPU s": round(cpu),
                "tracebacks": tracebacks,
            }
        )
    )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
