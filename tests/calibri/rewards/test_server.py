"""The server of a reward: who may ask, how much, and what it tells."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
import zlib

import pytest
from PIL import Image

from calibri.errors import RewardError
from calibri.rewards import server
from calibri.rewards.pictures import encode_picture
from calibri.rewards.remote import KIND, SCORE, RemoteReward
from calibri.rewards.server import RewardServer
from calibri.rewards.worker_main import PROTOCOL, pack
from tests.calibri.rewards.served import SECRET, Levels, Served, pictures


@pytest.fixture
def served():
    made = Served()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("CALIBRI_REWARD_TOKEN", SECRET)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        f"Basic {SECRET}",
        SECRET,
        f"Bearer {SECRET} x",
        "Bearer \xff",
        "Bearer " + "x" * 9000,
    ],
)
def test_only_the_token_opens(served, header):
    headers = {} if header is None else {"Authorization": header}
    status, told = served.request("GET", "/v1/reward", **headers)
    assert status == 401 and told == {"error": "expected the token of this server"}
    assert served.request("POST", SCORE, b"x" * 1000, Content_Type=KIND, **headers)[0] == 401
    assert served.request("GET", "/v1/reward", Authorization=f"bearer {SECRET}")[0] == 200


def test_the_token_is_compared_in_constant_time(served, monkeypatch):
    """By a comparison of digests: of one length, whatever was sent."""
    compared = []
    compare = server.hmac.compare_digest

    def remember(left, right):
        compared.append((len(left), len(right)))
        return compare(left, right)

    monkeypatch.setattr(server.hmac, "compare_digest", remember)
    for header in ("", "Bearer x", f"Bearer {SECRET}"):
        served.request("GET", "/v1/reward", Authorization=header)
    assert compared == [(32, 32)] * 3


def test_beyond_this_machine_there_must_be_a_token():
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", ""):
        with pytest.raises(RewardError, match="can be reached from other machines: expected a token"):
            RewardServer(Levels(), host, 0)
    with pytest.raises(RewardError, match="expected a token of at least 16 characters, got 5"):
        RewardServer(Levels(), "127.0.0.1", 0, "short")
    with pytest.raises(RewardError, match=r"192\.0\.2\.1:0 cannot be served"):
        RewardServer(Levels(), "192.0.2.1", 0, SECRET)
    RewardServer(Levels(), "0.0.0.0", 0, SECRET).server_close()


def test_without_a_token_a_page_of_a_browser_does_not_get_in():
    made = Served(token="")
    try:
        assert made.request("GET", "/v1/reward")[0] == 200
        for host in ("attacker.example", "attacker.example:8790", "192.0.2.1", "127.0.0.1.example:80"):
            assert made.request("GET", "/v1/reward", Host=host)[0] == 401
        for host in ("localhost:1", "127.0.0.1", "[::1]:5"):
            assert made.request("GET", "/v1/reward", Host=host)[0] == 200
        body = message(1)
        assert made.request("POST", SCORE, body, Content_Type="text/plain")[0] == 415
        assert made.request("POST", SCORE, body, Content_Type=KIND)[0] == 200
    finally:
        made.close()


# ---- limits


def message(count=1, blobs=None, **header):
    blobs = [encode_picture(pictures()[0])] * count if blobs is None else blobs
    return pack({"protocol": PROTOCOL, "prompts": ["a"] * len(blobs), **header}, blobs)


def bomb(width, height):
    """A small PNG that says it is large, with rows that would be."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def gif():
    written = io.BytesIO()
    Image.new("P", (4, 4)).save(written, "GIF")
    return written.getvalue()


WRONG = [
    (b"", 400, "protocol"),
    (b"{}", 400, "header"),
    (b"\xff\xff\xff\xff" + bytes(50), 400, "header of"),
    (message(protocol=2), 400, "expected protocol 1, got 2"),
    (message(prompts="a"), 400, "a list of texts"),
    (message(prompts=[1]), 400, "a list of texts"),
    (message(prompts=[]), 400, "a prompt for each picture, got 0 for 1"),
    (message(33), 413, "at most 32 pictures, got 33"),
    (message(blobs=[b"no picture"]), 400, "PNG or JPEG"),
    (message(blobs=[gif()]), 400, "PNG or JPEG"),
    (message(blobs=[encode_picture(Image.new("RGB", (300, 300)))[:200]]), 400, "PNG or JPEG"),
    (message(blobs=[bomb(5000, 5000)]), 413, "16777216 pixels in a picture"),
    (message(blobs=[bomb(60000, 60000)]), 413, "pixels in a picture"),
    (message(blobs=[bomb(4096, 4096)] * 5), 413, "67108864 pixels together"),
    (message(prompts=["x" * 2**20]), 400, "header of"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_does_not_fit_is_refused_before_it_is_scored(served, number):
    body, status, words = WRONG[number]
    found, told = served.send(body)
    assert (found, words in told["error"]) == (status, True), told
    assert served.reward.calls == []
    assert served.send(message())[0] == 200  # and the next one is served


def test_lengths_paths_and_methods_are_checked(served):
    headers = {"Authorization": f"Bearer {SECRET}"}
    assert served.send(b"x", Content_Length="999999999999999")[0] == 413
    assert served.send(b"x", Content_Length=str(server.MOST_BYTES + 1))[0] == 413
    assert served.send(b"x", Content_Length="-1")[0] == 411
    assert served.send(b"0\r\n\r\n", Transfer_Encoding="chunked", Content_Length="5")[0] == 411
    assert served.request("GET", "/../etc/passwd", **headers)[0] == 404
    assert served.request("POST", "/v1/other", b"", Content_Type=KIND, **headers)[0] == 404
    assert served.send(message(), Content_Type="application/octet-stream")[0] == 415


def test_a_request_that_does_not_arrive_ends(served, monkeypatch):
    monkeypatch.setattr(server, "SECONDS", 0.3)
    monkeypatch.setattr(server._Handler, "timeout", 0.3)
    host, port = served.server.server_address[:2]
    torn = (
        f"POST {SCORE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        f"Content-Type: {KIND}\r\nContent-Length: 100\r\n\r\nabc"
    )
    for start in (b"", b"GET /v1/rew", torn.encode()):
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(start)
            received = connection.recv(65536)  # an empty one: the server hung up
            assert received == b"" or b"408" in received
    assert served.send(message())[0] == 200


def test_so_many_connections_and_no_more(served, monkeypatch):
    host, port = served.server.server_address[:2]
    held = [socket.create_connection((host, port)) for _ in range(server.MOST_CONNECTIONS)]
    end = time.monotonic() + 10
    while served.server._room._value and time.monotonic() < end:
        time.sleep(0.01)
    assert served.request("GET", "/v1/reward", Authorization=f"Bearer {SECRET}") == (
        503,
        {"error": "too many connections: try later"},
    )
    waiting = threading.Timer(0.5, lambda: [each.close() for each in held])
    waiting.start()
    assert RemoteReward("cpu", served.url).info.name == "levels"  # asks again until there is room
    waiting.join()


def test_errors_of_the_reward_are_told_without_folders(served, caplog):
    reward = RemoteReward("cpu", served.url)
    served.reward.fails = RewardError("no /srv/somebody/model.bin")
    with pytest.raises(RewardError, match=r"its server answered 422: no model\.bin$"):
        reward.score(pictures()[:1], ["a"])
    served.reward.fails = ZeroDivisionError("/srv/somebody")
    with pytest.raises(
        RewardError, match="answered 500: ZeroDivisionError: the server's log has the details"
    ):
        reward.score(pictures()[:1], ["a"])
    assert SECRET not in caplog.text
    status, told = served.request("GET", "/v1/reward", Authorization=f"Bearer {SECRET}")
    assert status == 200 and told["info"]["revision"] == "w1-p1"


def test_folders_of_the_server_stay_there(tmp_path):
    made = Served(source=str(tmp_path))
    try:
        told = made.request("GET", "/v1/reward", Authorization=f"Bearer {SECRET}")[1]
        assert told["info"]["source"] == tmp_path.name
    finally:
        made.close()
