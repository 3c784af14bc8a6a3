"""What attacks on a public studio cost it: bounded, on loopback, on a studio that this starts itself.

    python -m benchmarks.attack                    # all, some minutes
    python -m benchmarks.attack --only guesses,join --calls 500

Printed as JSON; the exit code is 1 where one is not `ok`. Each attack comes from one visitor with a cookie.

vector, seeds, found: a short text or calibration that once took seconds or gigabytes. bomb, settings: small
PNG files with huge pixels or texts. uploads, sessions: as much as can be sent in ten seconds. flood: renders
from fifty connections. For each: requests, how they were answered, and what they cost the server: processor
seconds, MB of memory that stayed, MB on the disk, and how long an organiser's click took meanwhile.

guesses: wrong passwords a second, from fifty connections, and how long the right person then waits. join: the
share of pictures whose arm a hundred invented raters tell from how sides were dealt, with the interval of a
fair coin. fuzz: calls of every event with odd values; unhandled ones, and traces in the log.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.processes import cpu_seconds
from benchmarks.visitors import ACCOUNT, public_studio
from tests.browser.running import Studio

SECONDS = 10.0  # of what is sent as fast as it goes
CONNECTIONS = 50
FUZZERS = 8
CPU, MEMORY, DISK, CLICK = 10.0, 300.0, 100.0, 2.0  # s, MB, MB, s: more is not ok
Attack = Callable[[Studio, httpx.Client], Iterator[httpx.Response]]


# ---- what is sent


def call(client: httpx.Client, name: str, *values: Any) -> httpx.Response:
    """An endpoint, and its answer."""
    begun = client.post(f"/gradio_api/call/{name}", json={"data": values})
    if begun.status_code != 200:
        return begun
    return client.get(f"/gradio_api/call/{name}/{begun.json()['event_id']}")


def calibration(**fields: Any) -> str:
    content = {
        "format": "calibri-calibration/1",
        "backbone": "tabletop",
        "granularity": "block",
        "names": [*(f"double.{i}" for i in range(4)), *(f"single.{i}" for i in range(8))],
        "members": [{"scales": [1.1] * 12}],
    }
    return json.dumps(content | fields)


def vector(studio: Studio, client: httpx.Client) -> Iterator[httpx.Response]:
    for text in ("double[0-9999" + ",0-9999" * 50 + "] = 2", "*." * 30_000 + "=1", "*[0-3]=1\n" * 6000):
        yield call(client, "render", "a red cube", 0, 8, 1, "{" + text + "}")


def seeds(studio: Studio, client: httpx.Client) -> Iterator[httpx.Response]:
    for prompt in ("a\n" * 100_000, "a" * 240_000, "0-9999999, " * 20_000):
        yield call(client, "compare", prompt, 0, 8, 1, "layer")


def found(studio: Studio, client: httpx.Client) -> Iterator[httpx.Response]:
    deep = "[" * 5000 + "]" * 5000
    for text in (
        calibration(found={"x": "y" * 200_000}),
        calibration(members=[{"scales": [1.0] * 12}] * 20_000),
        calibration().replace("1.1", "9" * 5000, 1),
        calibration().replace('"backbone"', f'"found": {deep}, "backbone"'),
    ):
        yield call(client, "render", "a red cube", 0, 8, 1, text)


def png(width: int, height: int, text: bytes = b"") -> bytes:
    """A PNG whose header promises so many pixels. `text`: of a chunk that unpacks to something long."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    note = chunk(b"zTXt", b"calibri\0\0" + zlib.compress(text, 9)) if text else b""
    line = zlib.compress(b"\0" * (width // 8 + 1) * min(height, 3000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + note + chunk(b"IDAT", line) + chunk(b"IEND", b"")


def upload(client: httpx.Client, data: bytes) -> httpx.Response:
    return client.post("/gradio_api/upload", files={"files": ("a.png", io.BytesIO(data), "image/png")})


def bomb(studio: Studio, client: httpx.Client) -> Iterator[httpx.Response]:
    for data in (png(30_000, 30_000), png(60_000, 10), png(10, 60_000)):
        yield open_png(client, data)


def settings(studio: Studio, client: httpx.Client) -> Iterator[httpx.Response]:
    for _ in range(5):
        yield open_png(client, png(64, 64, b'{"prompt": "' + b"x" * 22_000_000 + b'"}'))


def open_png(client: httpx.Client, data: bytes) -> httpx.Response:
    """A picture sent to *Open settings from PNG* of Compare, as the page does it."""
    sent = upload(client, data)
    if sent.status_code != 200:
        return sent
    [path] = sent.json()
    config = client.get("/config").json()
    for number, event in enumerate(config["dependencies"]):
        if any(kind == "upload" for _, kind in event.get("targets", ())) and len(event["inputs"]) < 8:
            file = {"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
            values = ["" for _ in event["inputs"]]
            body = {
                "data": [*values[:-1], file],
                "fn_index": event.get("id", number),
                "session_hash": "attack",
            }
            client.post("/gradio_api/queue/join", json=body)
    return sent


def uploads(studio: Studio, client: httpx.Client) -> Iterator[httpx.Response]:
    end, data = time.monotonic() + SECONDS, np.random.default_rng(0).bytes(1_500_000)
    while time.monotonic() < end:
        yield upload(client, data)


def sessions(studio: Studio, client: httpx.Client) -> Iterator[httpx.Response]:
    end, number = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        number += 1
        body = {"data": ["x" * 10_000], "fn_index": 0, "session_hash": f"invented{number}"}
        yield client.post("/gradio_api/queue/join", json=body)


def flood(studio: Studio, client: httpx.Client) -> Iterator[httpx.Response]:
    end = time.monotonic() + SECONDS

    def ask(number: int) -> list[httpx.Response]:
        answers = []
        with httpx.Client(base_url=studio.url, timeout=120) as other:
            other.get("/")
            while time.monotonic() < end:
                answers.append(call(other, "render", f"red cube {number}", number, 30, 1, ""))
        return answers

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for answers in pool.map(ask, range(CONNECTIONS)):
            yield from answers


ATTACKS: dict[str, Attack] = {
    each.__name__: each for each in (vector, seeds, found, bomb, settings, uploads, sessions, flood)
}


# ---- what it costs


def measure(studio: Studio, attack: Attack, folder: Path) -> dict[str, Any]:
    """One attack, with an organiser who clicks meanwhile."""
    pid = studio.process.pid
    process, worked, memory, disk = psutil.Process(pid), cpu_seconds(pid), rss(pid), used(folder)
    clicks: list[float] = []
    done = threading.Event()

    def click() -> None:
        with httpx.Client(base_url=studio.url, timeout=120) as client:
            client.post("/login", data={"username": ACCOUNT[0], "password": ACCOUNT[1]})
            while not done.is_set():
                began = time.monotonic()
                call(client, "list_calibrations")
                clicks.append(time.monotonic() - began)
                done.wait(0.5)

    organiser = threading.Thread(target=click)
    organiser.start()
    answers: Counter[str] = Counter()
    try:
        with httpx.Client(base_url=studio.url, timeout=120) as client:
            client.get("/")
            for answer in attack(studio, client):
                answers[tell(answer)] += 1
    finally:
        done.set()
        organiser.join()
    time.sleep(2)
    costs = {
        "requests": sum(answers.values()),
        "answers": dict(answers.most_common(6)),
        "processor s": round(cpu_seconds(pid) - worked, 2),
        "memory MB": round((rss(pid) - memory) / 1e6),
        "disk MB": round((used(folder) - disk) / 1e6, 1),
        "organiser's slowest click s": round(max(clicks), 2),
    }
    limit = CPU + (
        2 * SECONDS if attack in (uploads, sessions, flood) else 0
    )  # two cores that were asked to work
    costs["ok"] = (
        process.is_running()
        and costs["processor s"] <= limit
        and costs["memory MB"] <= MEMORY
        and costs["disk MB"] <= DISK
        and costs["organiser's slowest click s"] <= CLICK
    )
    return costs


def tell(answer: httpx.Response) -> str:
    """The status, and of an event whether it worked."""
    kind = next((word for word in ("error", "complete") if f"event: {word}" in answer.text), "")
    return f"{answer.status_code} {kind}".strip()


def rss(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def used(folder: Path) -> int:
    """Bytes of the studio's own folders and of those that Gradio keeps beside them."""
    places = [folder, Path(tempfile.gettempdir()) / "gradio"]
    total = 0
    for place in places:
        for path in place.rglob("*"):
            with contextlib.suppress(OSError):
                total += path.stat().st_size if path.is_file() else 0
    return total


# ---- accounts, studies, odd calls


def guesses(studio: Studio) -> dict[str, Any]:
    """Wrong passwords as fast as they go, then the right one."""
    end, statuses = time.monotonic() + SECONDS, Counter()

    def guess(number: int) -> Counter[int]:
        seen: Counter[int] = Counter()
        with httpx.Client(base_url=studio.url, timeout=120) as client:
            while time.monotonic() < end:
                form = {"username": ACCOUNT[0], "password": f"wrong {number} {sum(seen.values())}"}
                seen[client.post("/login", data=form).status_code] += 1
        return seen

    began = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for seen in pool.map(guess, range(CONNECTIONS)):
            statuses.update(seen)
    seconds, began = time.monotonic() - began, time.monotonic()
    with httpx.Client(base_url=studio.url, timeout=120) as client:
        for _ in range(30):
            answer = client.post("/login", data={"username": ACCOUNT[0], "password": ACCOUNT[1]})
            if answer.status_code == 200:
                break
            time.sleep(1)
    checked = statuses[401] / seconds
    return {
        "answers": {str(status): number for status, number in statuses.items()},
        "guesses that were checked, a second": round(checked, 1),
        "right password accepted after s": round(time.monotonic() - began, 1),
        "ok": checked <= 2 and answer.status_code == 200,
    }


def join() -> dict[str, Any]:
    """The join attack on how sides are dealt, without a server: what its answers would tell at best."""
    from tests.studio.studies.voting.test_dealing import Table, joined, table

    shares = []
    for seed in range(40):
        deal = Table(table(prompts=40).book, Random(seed))
        shown = [deal.take(f"r{i // 2}") for i in range(200)]
        shares.append(joined([(s.pair.id, s.left_is_x) for s in shown], sorted({s.pair.id for s in shown})))
    coins = []
    for seed in range(4000):
        heads = int(Random(seed).getrandbits(40).bit_count())
        coins.append(max(heads, 40 - heads) / 40)
    mean, spread = float(np.mean(shares)), float(np.std(coins)) / len(shares) ** 0.5
    chance = float(np.mean(coins))
    return {
        "pictures told rightly": round(mean, 3),
        "95 % of coins": [round(chance - 1.96 * spread, 3), round(chance + 1.96 * spread, 3)],
        "studies": len(shares),
        "ok": mean <= chance + 1.96 * spread,
    }


def fuzz(studio: Studio, calls: int) -> dict[str, Any]:
    """Odd values to every event of the pages, from several connections."""
    before = studio.text().count("Traceback")
    shares = [calls // FUZZERS + (number < calls % FUZZERS) for number in range(FUZZERS)]
    with ThreadPoolExecutor(FUZZERS) as pool:
        found = list(pool.map(lambda job: fuzz_share(studio.url, *job), enumerate(shares)))
    traces = studio.text().count("Traceback") - before
    unhandled = sum(bad for _, bad in found)
    return {
        "calls": calls,
        "answers": dict(sum((answers for answers, _ in found), Counter[str]())),
        "unhandled": unhandled,
        "traces in the log": traces,
        "ok": not unhandled and not traces,
    }


def fuzz_share(url: str, number: int, calls: int) -> tuple[Counter[str], int]:
    """(how calls were answered, unhandled ones) of one connection."""
    from tests.studio.shell.test_fuzzed_calls import ODD, SENTENCE, TRACE

    draw, unhandled, answers = Random(f"18:{number}"), 0, Counter[str]()
    with httpx.Client(base_url=url, timeout=300) as client:
        events = client.get("/config").json()["dependencies"]
        for call in range(calls):
            if call % 50 == 0:
                client.cookies.clear()
                client.get("/")
            event = draw.choice(events)
            data = [draw.choice(ODD) for _ in event["inputs"]]
            session = f"fuzz{number}-{call}"
            body = {"data": data, "fn_index": event["id"], "session_hash": session, "event_data": {}}
            answer = client.post("/gradio_api/queue/join", json=body)
            if answer.status_code != 200:
                answers[str(answer.status_code)] += 1
                unhandled += answer.status_code >= 500 or not SENTENCE.search(answer.text)
                continue
            good, text = follow(client, session)
            answers["worked" if good else "refused"] += 1
            unhandled += not good and bool(TRACE.search(text) or not SENTENCE.search(text))
    return answers, unhandled


def follow(client: httpx.Client, session: str) -> tuple[bool, str]:
    """Whether an event worked, and what it answered."""
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        if stream.status_code != 200:
            return False, stream.read().decode()
        for line in stream.iter_lines():
            message = json.loads(line[5:]) if line.startswith("data:") else {}
            if message.get("msg") == "process_completed":
                return bool(message["success"]), str(message["output"])
            if message.get("msg") in ("unexpected_error", "close_stream"):
                return False, str(message)
    return False, ""


def attack(name: str, folder: Path, calls: int) -> dict[str, Any]:
    """One of them, on a studio of its own: one leaves nothing to the next."""
    if name == "join":
        return join()
    with public_studio(folder) as studio:
        if name in ATTACKS:
            return measure(studio, ATTACKS[name], folder)
        return guesses(studio) if name == "guesses" else fuzz(studio, calls)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="names with commas")
    parser.add_argument("--calls", type=int, default=5000, help="of fuzz")
    given = parser.parse_args()
    names = [*ATTACKS, "guesses", "join", "fuzz"]
    wanted = [name for name in names if not given.only or name in given.only.split(",")]
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in wanted:
            folder = Path(place) / name
            folder.mkdir()
            report[name] = attack(name, folder, given.calls)
            print(name, json.dumps(report[name]), file=sys.stderr, flush=True)
    report["ok"] = all(report[name]["ok"] for name in wanted)
    print(json.dumps(report, indent=1))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
