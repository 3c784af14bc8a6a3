"""A reward that another machine serves: the same scores, the token, and what is no address or server."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

import calibri
from calibri.cli import main
from calibri.errors import RewardError
from calibri.rewards import own
from calibri.rewards.base import RewardLoading, load_known
from calibri.rewards.cache import CachedReward, ScoreCache
from calibri.rewards.catalog import CATALOG
from calibri.rewards.pictures import encode_picture
from calibri.rewards.remote import Address, RemoteReward
from calibri.rewards.server import RewardServer
from tests.calibri.rewards.served import PROMPTS, SECRET, Levels, Served, pictures

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def served():
    made = Served()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("CALIBRI_REWARD_TOKEN", SECRET)


def test_it_scores_as_the_reward_itself_under_its_name(served, golden):
    reward = calibri.load_reward("remote", source=served.url)
    own = Levels()
    images = [image.convert("RGB") for image in pictures()]
    assert reward.score(pictures(), PROMPTS).tolist() == own.score(images, PROMPTS).tolist()
    assert reward.score([], []).shape == (0,)
    expected = own.info.model_copy(update={"source": served.url})
    assert reward.info == expected
    assert calibri.load_reward("levels", source=served.url).info == expected  # a name with an address
    with pytest.raises(RewardError, match=r"hpsv3 at .*: expected hpsv3, got levels"):
        calibri.load_reward("hpsv3", source=served.url)
    reward.close()
    with pytest.raises(RewardError, match="remote was closed"):
        reward.score(images[:1], ["a"])


def test_a_published_reward_gives_its_golden_scores_from_afar(golden):
    case = golden("pickscore")
    made = Served()
    made.server.reward = calibri.load_reward("pickscore", source=case.folder)
    try:
        far = calibri.load_reward("pickscore", source=made.url)
        near = made.server.reward.score(case.images, case.prompts)
        assert far.score(case.images, case.prompts).tolist() == near.tolist()
        assert far.info.revision == made.server.reward.info.revision
    finally:
        made.close()


def test_scores_are_kept_under_the_identity_of_what_is_served(served, tmp_path):
    cache = ScoreCache(tmp_path / "scores.db")
    far = CachedReward(calibri.load_reward("remote", source=served.url), cache)
    images = pictures()[:5]
    scores = far.score(images, PROMPTS[:5])
    here = Levels()
    assert CachedReward(here, cache).score(images, PROMPTS[:5]).tolist() == scores.tolist()
    assert here.calls == []  # the reward itself finds what the server scored
    jpeg = CachedReward(calibri.load_reward("remote", source=f"{served.url}?jpeg=95"), cache)
    assert len(cache) == 5
    jpeg.score(images, PROMPTS[:5])
    assert len(cache) == 10


def test_what_is_served_needs_no_package_here(monkeypatch):
    monkeypatch.setitem(CATALOG, "mps", CATALOG["mps"].model_copy(update={"packages": ("no_such_package",)}))
    RewardLoading(sources={"mps": "http://127.0.0.1:9"}).check(["mps"])
    with pytest.raises(RewardError, match="no_such_package"):
        RewardLoading().check(["mps"])


def test_jpeg_is_an_option_that_scores_and_records_name(served, tmp_path):
    image = pictures()[0]
    plain = calibri.load_reward("remote", source=served.url)
    jpeg = calibri.load_reward("remote", source=f"{served.url}/?jpeg=95")
    written = io.BytesIO()
    image.save(written, "JPEG", quality=95)
    assert jpeg.score([image], ["a"]).tolist() == Levels().score([Image.open(written)], ["a"]).tolist()
    assert plain.score([image], ["a"]) != jpeg.score([image], ["a"])
    assert jpeg.info.revision.startswith("w1-p1-jpeg95-by") and plain.info.revision == "w1-p1"
    assert jpeg.info.source == f"{served.url}?jpeg=95"
    assert calibri.load_reward("remote", source=f"{served.url}?jpeg=60").info.revision != jpeg.info.revision


def test_requests_are_scored_one_at_a_time(served):
    loaded = [calibri.load_reward("remote", source=served.url) for _ in range(6)]
    images = pictures()
    found: list = [None] * len(loaded)

    def ask(k):
        found[k] = loaded[k].score(images, PROMPTS).tolist()

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(loaded))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served.reward.most == 1 and len({tuple(each) for each in found}) == 1


def test_many_pictures_are_sent_in_parts(served, monkeypatch):
    reward = calibri.load_reward("remote", source=served.url)
    images = [pictures()[0]] * 70
    assert len(reward.score(images, ["a"] * 70)) == 70
    assert served.reward.calls == [32, 32, 6]
    reward._bytes = 2**20 + 2 * len(encode_picture(images[0]))
    reward.score(images[:5], ["a"] * 5)
    assert served.reward.calls[3:] == [2, 2, 1]


def test_a_server_that_was_started_anew_is_found_again(served):
    reward = calibri.load_reward("remote", source=served.url)
    assert len(reward.score(pictures(), PROMPTS)) == 8
    reward._connection.sock.shutdown(socket.SHUT_RDWR)  # as when the server closed it meanwhile
    assert len(reward.score(pictures(), PROMPTS)) == 8
    served.reward.info = served.reward.info.model_copy(update={"revision": "w2-p1"})
    with pytest.raises(RewardError, match="its server now has other weights"):
        reward.score(pictures(), PROMPTS)


# ---- the token


@pytest.mark.parametrize("given", ["", "wrong", SECRET + "x", SECRET[:-1], "é", "x" * 400])
def test_another_token_is_refused_and_never_told(served, monkeypatch, given, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CALIBRI_REWARD_TOKEN", given)
    with pytest.raises(RewardError) as told:
        RemoteReward("cpu", served.url)
    text = str(told.value)
    assert "asks for a token" in text or "visible ASCII" in text
    assert SECRET[:-1] not in text + caplog.text and (not given or given not in text + caplog.text)
    assert served.reward.calls == []


def test_the_token_goes_to_this_address_alone(monkeypatch):
    """A redirect is not followed, and no proxy of the environment is asked."""
    asked = []

    def answer(listener):
        connection, _ = listener.accept()
        asked.append(connection.recv(65536))
        connection.sendall(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\n{}"
        )
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with pytest.raises(RewardError, match="its server answered 302"):
            RemoteReward("cpu", f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert asked[0].count(SECRET.encode()) == 1


# ---- addresses


@pytest.mark.parametrize(
    "text, said",
    [
        ("ftp://host", "expected an address http"),
        ("http://", "expected an address http"),
        ("http://host:99999", "cannot be read"),
        ("http://name:password@host", "without name and password"),
        ("http://host/path", "without a path"),
        ("http://host?jpeg=96", "quality from 1 to 95"),
        ("http://host?jpeg=95&jpeg=90", "quality from 1 to 95"),
        ("http://host?png=1", "quality from 1 to 95"),
    ],
)
def test_what_is_no_address_is_refused(text, said):
    with pytest.raises(RewardError, match=said) as told:
        Address(text)
    assert "password@" not in str(told.value)


def test_addresses_are_written_one_way():
    assert Address("HTTP://Host:80/").text == "http://host:80"
    assert Address("https://[::1]?jpeg=95").text == "https://[::1]:443?jpeg=95"


def test_without_a_server_it_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(
        RewardError, match=rf"^hpsv3 at http://127.0.0.1:{port}: its server cannot be reached: "
    ):
        calibri.load_reward("hpsv3", source=f"http://127.0.0.1:{port}")
    with pytest.raises(RewardError, match="remote: expected the address of a server as its source"):
        calibri.load_reward("remote")


def test_something_else_that_answers_is_a_sentence():
    def answer(listener):
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with pytest.raises(RewardError, match="expected a server of calibri, got status 200"):
            RemoteReward("cpu", f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize(
    "changed, said", [({"protocol": 2}, "protocol 1, got 2"), ({"info": {}}, "did not tell")]
)
def test_another_version_of_the_server_is_a_sentence(served, monkeypatch, changed, said):
    told = {**served.server.describe(), **changed}
    monkeypatch.setattr(served.server, "describe", lambda: told)
    with pytest.raises(RewardError, match=said):
        RemoteReward("cpu", served.url)


def test_what_a_newer_server_adds_is_left_out(served, monkeypatch):
    told = served.server.describe()
    told["info"]["news"], told["more"] = 1, 2
    monkeypatch.setattr(served.server, "describe", lambda: told)
    assert RemoteReward("cpu", served.url).info.revision == "w1-p1"


# ---- the command


@pytest.fixture
def command(tmp_path):
    """`calibri rewards serve` with these options, as a process: (process, address)."""
    started = []

    def start(*options, token=SECRET, env=None):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        environment.pop("CALIBRI_REWARD_TOKEN", None)
        if token:
            (tmp_path / "token").write_text(f"{token}\n")
            options = (*options, "--token-file", str(tmp_path / "token"))
        argv = [sys.executable, "-m", "calibri.cli", "rewards", "serve", *options, "--port", "0"]
        process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        started.append(process)
        line = process.stdout.readline()
        return process, (re.findall(r"http://\S+", line) or [""])[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_command_serves_and_an_evaluation_uses_it(command, flux_folder, tmp_path, capsys):
    process, url = command("tabletop-quality")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red cube\na blue sphere\n")
    argv = [
        "evaluate", "--backbone", str(flux_folder), "--prompts", str(prompts), "--pairs", "4", "--steps", "1",
        "--device", "cpu", "--json", "--reward", "tabletop-quality",
    ]  # fmt: skip
    assert main(argv) == 0
    near = capsys.readouterr().out
    scores = str(tmp_path / "scores.db")
    assert main([*argv, "--reward-source", f"tabletop-quality={url}", "--scores", scores]) == 0
    afar = json.loads(capsys.readouterr().out)["means"]["tabletop-quality"]
    assert afar == pytest.approx(json.loads(near)["means"]["tabletop-quality"])
    assert main(["rewards", "test", "remote", "--source", url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["name"] == "tabletop-quality" and report["source"] == url
    assert main(["rewards", "test", "remote", "--source", url, "--dtype", "bfloat16"]) == 0
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and SECRET not in out + err and "Traceback" not in err


def test_the_command_refuses_before_it_loads(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("CALIBRI_REWARD_TOKEN")
    assert main(["rewards", "serve", "hpsv3", "--host", "0.0.0.0"]) == 1
    assert "can be reached from other machines: expected a token" in capsys.readouterr().err
    (tmp_path / "token").write_text("two words")
    for path, said in (
        (tmp_path / "token", "one line of visible ASCII"),
        (tmp_path / "none", "No such file"),
    ):
        assert main(["rewards", "serve", "hpsv3", "--token-file", str(path)]) == 1
        err = capsys.readouterr().err
        assert said in err and "two words" not in err


def test_a_search_records_the_address_and_no_token(served, flux_folder, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red cube\na blue sphere\ntwo green cones\na fox\n")
    (tmp_path / "held.txt").write_text("a yellow cube\na grey fox\n")
    options = (
        f"--generations 1 --steps 1 --bucket 2 --pool 4 --popsize 4 --validation-pairs 0 --held-out-pairs 2 "
        f"--granularity block --device cpu --convergence none --prompts {tmp_path}/prompts.txt "
        f"--held-out {tmp_path}/held.txt --reward remote --reward-source remote={served.url}?jpeg=95"
    )
    out = tmp_path / "run"
    assert main(["search", "--backbone", str(flux_folder), "--out", str(out), *options.split()]) == 0
    written = "".join(path.read_text() for path in out.glob("*.json*"))
    assert f"{served.url}?jpeg=95" in written and "w1-p1-jpeg95" in written
    assert SECRET not in written


def test_an_address_that_a_page_names_is_not_asked(served, monkeypatch):
    """Nor is the token shown to it: pages load as `load_known` does, and no command named the address."""
    monkeypatch.setattr(own, "_ADDRESSES", set())
    asked = []
    monkeypatch.setattr(RewardServer, "allows", lambda *given: asked.append(given))
    for name in ("remote", "levels", "hpsv3"):
        with pytest.raises(RewardError, match="addresses are given to commands alone"):
            load_known(name, served.url)
        with pytest.raises(RewardError, match="addresses are given to commands alone"):
            RewardLoading(sources={name: served.url}).load([name], "cpu")
    with pytest.raises(RewardError, match="expected the address of a server as its source"):
        RewardLoading().load(["remote"], "cpu")
    own.admit_addresses(["owner/name", "http://127.0.0.1:1"])
    assert sorted(own._ADDRESSES) == ["http://127.0.0.1:1"]
    assert asked == []
