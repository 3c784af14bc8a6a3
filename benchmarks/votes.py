"""Many raters at once against the running studio, over real HTTP, with the server killed in the middle.

    python -m benchmarks.votes                      # 200 raters × 20 votes, then ten times kill -9
    python -m benchmarks.votes --think 0            # nobody looks at the pictures: what the server can take
    python -m benchmarks.votes --server light       # the voting routes alone, without Gradio and model
    python -m benchmarks.votes --volume 64          # the same, and half-way the disk is full for 10 seconds

Printed as JSON, one object without kills and one with; the exit code is 1 where one is not `ok`: every vote
acknowledged and in the file once, nothing lost, and without kills 95 % of them within 500 ms. With `--volume`
the data folder of the second lies on a volume of that many MB in memory, made with `mount`, which root may.

Further: time of a vote as its rater waits for it (ms), acknowledged votes, rows, duplicates, losses. Raters
fetch both pictures of every pair, think for a random time (exponential, `--think` seconds in the mean), vote,
and repeat a vote whose answer was lost, as the page does. Without kills they come when the studio has loaded
its backbone; after a kill they are there while it starts again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.processes import cpu_seconds, settle

ROOT = Path(__file__).resolve().parent.parent
P95 = 500.0  # ms
FULL_SECONDS = 10.0  # how long the disk stays full


@dataclass
class Tally:
    """What the raters saw. `waits`: seconds for each acknowledged vote; `acknowledged`: vote ids."""

    waits: list[float] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    repeated: int = 0
    refused: list[str] = field(default_factory=list)


class Connection:
    """One kept-alive HTTP/1.1 connection: small, so that the load takes little of the two cores."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._last = 0.0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """(status, body). Raises OSError or asyncio.IncompleteReadError when the server goes away."""
        if time.monotonic() - self._last > 4:  # the server ends idle connections after five seconds
            self.close()
        self._last = time.monotonic()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        data = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(data)}\r\n\r\n"
        try:
            writer.write(head.encode() + data)
            await writer.drain()
            status = int((await reader.readuntil(b"\r\n")).split()[1])
            length = 0
            while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            return status, await reader.readexactly(length)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def insist(
    connection: Connection, method: str, path: str, body: dict[str, Any] | None, tally: Tally
) -> bytes:
    """Ask until there is an answer, as the rater's page does."""
    while True:
        try:
            status, data = await connection.ask(method, path, body)
        except (OSError, asyncio.IncompleteReadError, IndexError, ValueError):
            tally.repeated += 1
            await asyncio.sleep(0.3)
            continue
        if status == 200:
            return data
        if status < 500 and status != 429:  # 429: too often; the page waits, too
            tally.refused.append(f"{status} {data[:120]!r}")
            raise RuntimeError(tally.refused[-1])
        await asyncio.sleep(0.3)


async def rater(
    port: int, study: str, votes: int, think: float, tally: Tally, number: int, start: float
) -> None:
    """One person: consent, then look, think, vote."""
    generator = np.random.default_rng(number)
    connection = Connection(port)
    me = {"study": study, "rater": secrets.token_hex(16)}
    await asyncio.sleep(start)
    view = json.loads(await insist(connection, "POST", "/ballot/consent", me, tally))
    cast = 0
    while view["stage"] == "vote" and cast < votes:
        token = view["showings"][0]["token"]
        for side in ("left", "right"):
            await insist(connection, "GET", f"/ballot/picture/{token}/{side}", None, tally)
        if think:
            await asyncio.sleep(float(generator.exponential(think)))
        side = str(generator.choice(["left", "right", "tie"]))
        answers = {q["id"]: side for q in view["questions"]}
        ballot = {**me, "token": token, "answers": answers, "response_ms": 2000, "shown_ms": 2500}
        began = time.perf_counter()
        view = json.loads(await insist(connection, "POST", "/ballot/cast", ballot, tally))
        tally.waits.append(time.perf_counter() - began)
        tally.acknowledged += view["votes"]
        cast += 1
    connection.close()


def make_study(data: Path, prompts: int, cap: int, pixels: int = 128) -> str:
    """An open study with random pictures in this data folder; returns its id."""
    from calibri.calibration.artifact import Calibration, Member
    from studio.studies.planning import NewArm, NewPrompt, NewStudy
    from studio.studies.protocol import Protocol
    from studio.studies.studies import open_studies

    studies = open_studies(data, None)
    found = Calibration(
        backbone="tabletop", granularity="block", names=("double.0",), members=(Member(scales=(1.1,)),)
    )
    study = studies.create(
        NewStudy(
            name="load",
            seed=1,
            arms=(
                NewArm(label="base"),
                NewArm(label="calibrated", kind="calibrated", calibration=found.to_json()),
            ),
            prompts=tuple(NewPrompt(text=f"prompt {i}") for i in range(prompts)),
            protocol=Protocol(cap=cap, least_view_ms=0),
        )
    )
    generator = np.random.default_rng(0)

    def picture() -> str:
        small = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        large = Image.fromarray(small, "RGB").resize((pixels, pixels), Image.Resampling.BICUBIC)
        sha256 = studies.images.put(large)
        studies.images.view(sha256)  # as the rendering of a study does
        return sha256

    studies.store.hang([(pair.id, picture(), picture()) for pair in studies.store.pairs(study.id)])
    studies.set_status(study.id, "open")
    studies.close()
    return study.id


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_light(data: Path, port: int) -> None:
    """The voting routes alone. Runs until it is killed."""
    import uvicorn
    from starlette.applications import Starlette

    from studio.studies.http import routes
    from studio.studies.studies import open_studies

    uvicorn.run(Starlette(routes=routes(open_studies(data, None))), port=port, log_level="error")


async def start_server(kind: str, data: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a server process and wait until it answers."""
    if kind == "light":
        command = [sys.executable, "-m", "benchmarks.votes", "--serve", str(port), "--data", str(data)]
    else:
        command = [sys.executable, "app.py", "--port", str(port), "--data", str(data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(6000):
        try:
            status, _ = await Connection(port).ask("GET", "/ballot")
            if status == 200:
                return process
        except (OSError, asyncio.IncompleteReadError, IndexError, ValueError):
            await asyncio.sleep(0.1)
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
    process.kill()
    raise RuntimeError("the server did not answer within ten minutes")


@contextlib.contextmanager
def small_volume(folder: Path, megabytes: int) -> Iterator[None]:
    """This folder as a volume of its own, which can be filled without harm to the machine."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True, timeout=60
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=60)


async def fill_for_a_while(volume: Path) -> None:
    """Leave no byte free on the volume for FULL_SECONDS. What the server frees meanwhile is filled too."""
    filler, end = volume / "filler", time.monotonic() + FULL_SECONDS
    with filler.open("wb", buffering=0) as stream:
        while time.monotonic() < end:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while stream.write(b"\0" * size):
                        pass
            await asyncio.sleep(0.1)
    filler.unlink()


async def disturb(
    process: subprocess.Popen[bytes], server: str, data: Path, port: int, full: bool
) -> subprocess.Popen[bytes]:
    """One disturbance: the disk full for a while, or kill -9 and a new start. Returns the process that
    serves afterwards."""
    if full:
        await fill_for_a_while(data.parent)
        return process
    process.send_signal(signal.SIGKILL)
    process.wait()
    return await start_server(server, data, port)


async def run(
    *,
    raters: int,
    votes: int,
    kills: int,
    think: float,
    server: str,
    data: Path,
    full: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """One load, with `kills` kill -9 spread over it, and a full disk half-way. Returns what is printed."""
    study = make_study(data, prompts=max(2 * votes, 40), cap=votes)
    port, tally = free_port(), Tally()
    process = await start_server(server, data, port)
    if not kills:
        settle(process.pid)  # the raters come when the backbone is loaded
    began, worked = time.perf_counter(), cpu_seconds(process.pid)
    generator = np.random.default_rng(seed)
    spread = max(think, 0.5)
    people = [
        asyncio.create_task(rater(port, study, votes, think, tally, i, float(generator.uniform(0, spread))))
        for i in range(raters)
    ]
    marks = [(share, False) for share in generator.uniform(0.05, 0.95, kills)] + full * [(0.5, True)]
    for share, filled in sorted(marks):
        while len(tally.waits) < share * raters * votes and not all(p.done() for p in people):
            await asyncio.sleep(0.02)
        process = await disturb(process, server, data, port, filled)
    await asyncio.gather(*people)
    seconds, worked = time.perf_counter() - began, cpu_seconds(process.pid) - worked
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    waits = 1000 * np.array(tally.waits)
    found = check(data, tally)
    wanted = raters * votes
    whole = (found["acknowledged"], found["rows"]) == (wanted, wanted) and not (
        found["duplicates"] or found["lost"] or found["refused"]
    )
    return {
        "ok": whole and (kills > 0 or float(np.percentile(waits, 95)) <= P95),
        "raters": raters,
        "votes each": votes,
        "server": server,
        "think s": think,
        "kills": kills,
        "disk full s": FULL_SECONDS if full else 0,
        "seconds": round(seconds, 1),
        "server's CPU ms a vote": None if kills else round(1000 * worked / len(tally.waits), 1),
        "votes a second": round(len(waits) / seconds, 1),
        **{f"p{q} ms": round(float(np.percentile(waits, q)), 1) for q in (50, 95, 99, 100)},
        **found,
        "requests repeated": tally.repeated,
        "cores": os.cpu_count(),
        "load average": round(os.getloadavg()[0], 1),
    }


def check(data: Path, tally: Tally) -> dict[str, int]:
    """Compare what was acknowledged with what the file holds."""
    from studio.studies.studies import open_studies

    studies = open_studies(data, None)
    ids = [row[0] for row in studies.db.read("SELECT id FROM votes")]
    pairs = studies.db.read("SELECT count(*) FROM (SELECT DISTINCT pair, rater, question FROM votes)")
    lean = studies.db.read(
        "SELECT abs(sum(CASE WHEN a.left_is_x THEN 1 ELSE -1 END)) FROM votes "
        "JOIN assignments a USING (token)"
    )
    studies.close()
    return {
        "acknowledged": len(set(tally.acknowledged)),
        "rows": len(ids),
        "duplicates": len(ids) - pairs[0][0],
        "lost": len(set(tally.acknowledged) - set(ids)),
        "sides apart": int(lean[0][0] or 0),
        "refused": len(tally.refused),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--votes", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--think", type=float, default=3.0, help="seconds of looking, in the mean")
    parser.add_argument("--server", choices=("app", "light"), default="app")
    parser.add_argument("--volume", type=int, metavar="MB", default=0, help="a small disk that gets full")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve_light(given.data, given.serve)
        return 0
    fine = True
    for kills in sorted({0, given.kills}):
        volume = bool(kills and given.volume)
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            place = Path(folder) / "volume"
            if volume:
                stack.enter_context(small_volume(place, given.volume))
            made = asyncio.run(
                run(
                    raters=given.raters,
                    votes=given.votes,
                    kills=kills,
                    think=given.think,
                    server=given.server,
                    data=place / "data",
                    full=volume,
                )
            )
        print(json.dumps(made), flush=True)
        fine = fine and made["ok"]
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
