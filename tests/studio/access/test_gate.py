"""What visitors of a public studio may send: bytes, files, requests at once; attacks on a running studio."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlparse

import httpx
import pytest

from studio.access.callers import Caller
from studio.access.gate import (
    DEEPEST_CALL,
    LARGEST_CALL,
    LARGEST_CALL_OF_VISITORS,
    LARGEST_UPLOAD_OF_VISITORS,
    Refused,
    check_call,
)
from studio.access.limits import SECONDS_EACH, STRANGER, LimitError, measure_work
from studio.access.traffic import AT_ONCE, REQUESTS, UPLOADS, TooMuch, Traffic
from studio.machine.host import ModelHost
from studio.shell import lanes
from tests.studio.access.test_demo import defaults
from tests.studio.access.test_limits import ONE, SPEC, Door, render
from tests.studio.launched import Launched, launched

NAME, PASSWORD = "ann", "open:sesame"


@pytest.fixture(scope="module")
def studio(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("gate"), host, demo=True, auth=f"{NAME}:{PASSWORD}") as made:
        yield made


@pytest.fixture
def visitor(studio: Launched) -> Iterator[httpx.Client]:
    studio.core.traffic.__init__()  # as at the start
    with studio.client() as client:
        assert client.get("/").status_code == 200
        yield client


# the running studio


def post(client: httpx.Client, size: int) -> httpx.Response:
    """A call of that many bytes, of an event that there is not."""
    head, tail = b'{"fn_index": 99999, "session_hash": "a", "data": ["', b'"]}'
    body = head + b"x" * (size - len(head) - len(tail)) + tail
    return client.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})


def test_a_call_of_a_visitor_has_a_size(visitor: httpx.Client) -> None:
    assert post(visitor, LARGEST_CALL_OF_VISITORS).status_code == 404
    refused = post(visitor, LARGEST_CALL_OF_VISITORS + 1)
    assert refused.status_code == 413
    assert f"at most {LARGEST_CALL_OF_VISITORS} bytes, got {LARGEST_CALL_OF_VISITORS + 1}" in refused.text


def test_a_call_of_unknown_length_is_counted_as_it_comes(visitor: httpx.Client) -> None:
    chunks = (b"x" * 65536 for _ in range(1000))
    refused = visitor.post("/gradio_api/queue/join", content=chunks)
    assert refused.status_code == 413 and "got more" in refused.text


def test_an_organiser_may_send_more(studio: Launched) -> None:
    with studio.client() as client:
        client.post("/signin", data={"username": NAME, "password": PASSWORD})
        assert post(client, LARGEST_CALL_OF_VISITORS + 1).status_code == 404
        assert post(client, LARGEST_CALL + 1).status_code == 413


def test_files_have_a_size_and_a_rate(studio: Launched, visitor: httpx.Client) -> None:
    def send(size: int) -> httpx.Response:
        head = b'--a\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        files = head + b"\0" * (1_900_000) + b"\r\n"
        body = files * (size // len(files))
        body += b"\r\n" * 8 + b"--a--\r\n"
        headers = {"content-type": "multipart/form-data; boundary=a"}
        return visitor.post("/gradio_api/upload", content=body, headers=headers)

    assert send(LARGEST_UPLOAD_OF_VISITORS).status_code == 200
    refused = send(2 * LARGEST_UPLOAD_OF_VISITORS)
    assert refused.status_code == 413 and f"at most {LARGEST_UPLOAD_OF_VISITORS} bytes" in refused.text
    answers = [send(LARGEST_UPLOAD_OF_VISITORS) for _ in range(8)]
    late = next(a for a in answers if a.status_code == 429)
    assert "Too many files" in late.text and 1 <= int(late.headers["retry-after"]) <= 60
    assert sum(a.status_code == 200 for a in answers) <= UPLOADS.visitor.burst / 3_000_000


def test_an_upload_that_breaks_off_is_one_line_of_the_log(studio: Launched, caplog, capfd) -> None:
    address = urlparse(studio.url)
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=a\r\n\r\n"
    )
    with caplog.at_level(logging.INFO):
        for path in ("upload", "queue/join"):
            with socket.create_connection((address.hostname, address.port)) as line:
                line.sendall(head.replace("upload", path).encode() + b"--a\r\n" + b"x" * 1000)
        end = time.monotonic() + 20
        while caplog.text.count("request aborted") < 2 and time.monotonic() < end:
            time.sleep(0.05)
    told = [r.getMessage() for r in caplog.records if "aborted" in r.getMessage()]
    assert sorted(words.split(" after ")[0] for words in told) == [
        "request aborted: POST /gradio_api/queue/join",
        "request aborted: POST /gradio_api/upload",
    ]
    out, err = capfd.readouterr()
    assert "Traceback" not in caplog.text + out + err


def test_invented_sessions_cost_little(studio: Launched, visitor: httpx.Client) -> None:
    """Each was 1 MB and 0.1 s of work, and kept what was sent."""
    import tracemalloc

    holder = studio.app.state_holder
    assert holder.capacity <= 2000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(50):
        holder[f"invented {number}"]._update_value_in_config(1, "x" * 100_000)
    assert (tracemalloc.get_traced_memory()[0] - before) / 50 < 60_000
    tracemalloc.stop()
    for number in range(50):
        del holder.session_data[f"invented {number}"]


def test_a_flood_of_a_visitor_does_not_keep_an_organiser_waiting(
    studio: Launched, visitor: httpx.Client
) -> None:
    """50 connections at once; meanwhile the model is held, so that nothing of theirs ends."""
    from studio.machine.queue import Priority

    [number] = studio.indices("on_compare")[-1:] or [None]
    number = next(n for n, fn in studio.app.fns.items() if fn.api_name == "compare")
    body = {"data": ["a cube", 1, 1, 1, "layer"], "fn_index": number, "trigger_id": None}
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with studio.core.host.hold(Priority.SEARCH, "a test"):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)

    def join(i: int) -> httpx.Response:
        return visitor.post("/gradio_api/queue/join", json={**body, "session_hash": f"flood{i}"})

    try:
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(join, range(50)))
        let_in = [a for a in answers if a.status_code == 200]
        refused = [a for a in answers if a.status_code == 429]
        assert len(let_in) + len(refused) == 50 and 1 <= len(let_in) <= lanes.MOST_OF_ONE + 3
        waits = [a for a in refused if "what you typed stays" in a.text]
        assert waits and all(int(a.headers["retry-after"]) >= 1 for a in refused)
        with studio.client() as organiser:
            organiser.post("/signin", data={"username": NAME, "password": PASSWORD})
            number = studio.indices("load_chosen")[0]
            worked, answer = studio.call(organiser, number, ["tabeltop", *defaults(studio, number)[1:]])
            assert not worked and "did you mean tabletop" in str(answer)
            [listed] = [n for n, fn in studio.app.fns.items() if fn.api_name == "list_calibrations"]
            assert studio.call(organiser, listed, [])[0]
    finally:
        done.set()
        thread.join()


# counting, without a server


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def traffic(clock: list[float]) -> Traffic:
    return Traffic(lambda: clock[0])


def test_requests_are_counted_by_cookie_address_and_together(traffic: Traffic, clock: list[float]) -> None:
    def flood(count: int, make) -> int:
        passed = 0
        for number in range(count):
            try:
                traffic.take_request(make(number))
                passed += 1
            except TooMuch as error:
                assert error.seconds >= 1
        return passed

    assert flood(2000, lambda i: Caller("ann", "a")) == REQUESTS.visitor.burst
    assert flood(5000, lambda i: Caller(f"v{i}", "a")) == REQUESTS.address.burst - REQUESTS.visitor.burst
    rest = REQUESTS.everybody.burst - REQUESTS.address.burst
    assert flood(5000, lambda i: Caller(f"w{i}", f"b{i}")) == rest
    assert flood(50, lambda i: Caller("", "a", organiser=True)) == 50
    clock[0] = 1.0
    assert flood(5000, lambda i: Caller(f"x{i}", f"c{i}")) == REQUESTS.everybody.per_second


def test_bytes_are_reserved_and_given_back(traffic: Traffic) -> None:
    ann = Caller("ann", "a")
    with pytest.raises(TooMuch, match=rf"at most {UPLOADS.visitor.burst:.0f} bytes, got 16000001"):
        traffic.take_upload(ann, int(UPLOADS.visitor.burst) + 1)
    traffic.take_upload(ann, int(UPLOADS.visitor.burst))
    with pytest.raises(TooMuch, match="Too many files"):
        traffic.take_upload(ann, 1)
    traffic.give_back(ann, 1000)
    traffic.take_upload(ann, 1000)


def test_open_requests_have_a_limit_that_holds_under_threads(traffic: Traffic) -> None:
    start, leave = threading.Barrier(50), threading.Event()

    def stay(_: int) -> bool:
        start.wait()
        try:
            with traffic.answering(Caller("ann", "a")):
                leave.wait(30)
                return True
        except TooMuch:
            return False
        finally:
            refused.release()

    refused = threading.Semaphore(0)
    with ThreadPoolExecutor(50) as pool:
        stays = [pool.submit(stay, i) for i in range(50)]
        for _ in range(50 - AT_ONCE[0]):
            refused.acquire(timeout=30)
        leave.set()
        assert sum(each.result() for each in stays) == AT_ONCE[0]
    with traffic.answering(Caller("ann", "a")):
        pass


@pytest.mark.parametrize("levels, fits", [(DEEPEST_CALL, True), (DEEPEST_CALL + 1, False)])
def test_a_call_has_levels(levels: int, fits: bool) -> None:
    body = ('{"data":' * levels + "1" + "}" * levels).encode()
    if fits:
        assert check_call(body) == json.loads(body)
        return
    with pytest.raises(Refused, match=f"at most {DEEPEST_CALL} levels"):
        check_call(body)


# work instead of pictures


def test_work_is_pixels_times_steps_times_members() -> None:
    from dataclasses import replace

    from calibri.calibration.artifact import Member

    usual = replace(ONE[0], steps=SPEC.steps)
    members = (Member(scales=(1.0,)),) * 3
    assert measure_work([usual], SPEC) == 1
    assert measure_work([replace(usual, steps=2 * SPEC.steps)], SPEC) == 2
    assert measure_work([replace(usual, steps=2 * SPEC.steps, members=members)], SPEC) == 6
    assert measure_work([replace(usual, guidance=3.0)], SPEC) == 2
    assert measure_work([replace(usual, width=32, members=members)], SPEC) == 1.5
    assert measure_work([replace(usual, steps=1)] * 5, SPEC) == 5  # each is one picture at least


def test_more_work_than_an_allowance_is_refused_at_once() -> None:
    from dataclasses import replace

    from calibri.calibration.artifact import Member

    spec = SPEC.model_copy(update={"steps": 10})
    heavy = replace(ONE[0], steps=30, members=(Member(scales=(1.0,)),) * 4)  # 12 usual pictures
    door = Door()
    with door.limits().admitted((heavy,), spec):
        pass
    with (
        pytest.raises(LimitError, match=r"at most 12 usual pictures at once, got that of 13\.0"),
        door.limits().admitted((heavy, ONE[0]), spec),
    ):
        pass


def test_what_was_called_off_before_its_first_step_costs_nothing() -> None:
    door = Door()
    asked = door.limits()
    for _ in range(40):
        with pytest.raises(ZeroDivisionError), asked.admitted(ONE, SPEC):
            raise ZeroDivisionError
    for _ in range(12):
        with pytest.raises(ZeroDivisionError), asked.admitted(ONE, SPEC) as let_in:
            let_in.begin()
            raise ZeroDivisionError
    with pytest.raises(LimitError, match="pictures a minute"):
        render(asked)


def test_an_address_has_an_allowance_whatever_its_cookies_are() -> None:
    door, where = Door(), ["a"]
    asked = door.limits(rate=12)
    asked._where = lambda: where[0]
    for number in range(4):
        door.who = f"cookie {number}"
        render(asked, times=12)
    door.who = "one more"
    with pytest.raises(LimitError, match="at your address"):
        render(asked)
    where[0] = "b"
    render(asked)


def test_a_full_queue_says_how_long() -> None:
    door = Door()
    asked = door.limits(queue=1, rate=1000)
    with asked.admitted(ONE * 4, SPEC):
        door.who = "ben"
        words = f"wait already. Try again in about {4 * SECONDS_EACH:.0f} seconds; what you typed stays"
        with pytest.raises(LimitError, match=words.replace(".", r"\.")):
            render(asked)


def test_fifty_threads_do_not_get_more_than_one_allowance() -> None:
    door = Door(who=STRANGER)
    asked = door.limits()
    start = threading.Barrier(50)

    def ask(_: int) -> bool:
        start.wait()
        try:
            render(asked)
        except LimitError:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        assert sum(pool.map(ask, range(50))) <= 12
