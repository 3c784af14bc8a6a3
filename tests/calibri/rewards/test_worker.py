"""Rewards in a process of their own: what they score, how they end, and who may speak to them."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibri.errors import RewardError
from calibri.rewards import worker_main, worker_process
from calibri.rewards.worker import WorkerReward, WorkerSpec
from calibri.rewards.worker_process import WorkerProcess

ROOT = Path(__file__).resolve().parents[3]
REWARD = """
import os, sys, time
from PIL import Image

class Reward:
    def __init__(self, device, folder="", scale=1.0, revision=""):
        self.device, self.folder, self.scale, self.revision = device, folder, scale, revision
        print("said while loading")

    def score(self, images, prompts):
        if len(images) > 2 and "small" in prompts:
            raise MemoryError("no room")
        return [self.one(image, prompt) for image, prompt in zip(images, prompts)]

    def one(self, image, prompt):
        if prompt == "once":  # ends the first time that it is asked
            mark = os.path.join(self.folder, "asked")
            if not os.path.exists(mark):
                open(mark, "w").close()
                prompt = "end"
        if prompt == "end":
            sys.stderr.write("cannot open /srv/somebody/secret/model.bin\\n")
            sys.stderr.flush()
            os._exit(3)
        if prompt == "kill":
            os.kill(os.getpid(), 9)
        if prompt == "sleep":
            time.sleep(60)
        if prompt == "raise":
            raise ValueError("no /srv/somebody/secret/table.txt")
        if prompt == "process":
            return os.getpid()
        if prompt == "strange":
            return "x"
        assert image.mode == "RGB"
        return self.scale * sum(image.getpixel((0, 0))) + len(prompt)
"""


@pytest.fixture
def make(tmp_path):
    """A worker of REWARD in this interpreter, which has Pillow."""
    (tmp_path / "reward.py").write_text(REWARD)
    made = []

    def start(name="mine", **fields):
        spec = WorkerSpec(place="reward.py:Reward", options=fields.pop("options", {}), **fields)
        made.append(WorkerReward(spec, name, "cpu", folder=tmp_path, python=Path(sys.executable)))
        return made[-1]

    yield start
    for each in made:
        each.close()


def picture(*levels, mode="RGB"):
    return Image.new(mode, (8, 6), levels or (1, 2, 3))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_alive(pid)


def test_pictures_and_prompts_arrive_as_they_are(make):
    reward = make(batch=3, options={"scale": 2.0})
    images = [picture(k, 0, 0) for k in range(7)] + [Image.new("L", (5, 5), 9), Image.new("RGBA", (4, 4), 7)]
    prompts = ["", "é", "\ud800", "x" * 3000, "a\nb", "名", "a", "a", "a"]
    expected = [2 * k + len(p) for k, p in zip(range(7), prompts)] + [2 * 27 + 1, 2 * 7 + 1]
    scores = reward.score(images, prompts)
    assert scores.dtype == np.float64 and scores.tolist() == expected
    assert reward.score([], []).shape == (0,)
    with pytest.raises(RewardError, match="one prompt for each image"):
        reward.score(images, ["a"])


def test_a_worker_that_ended_is_started_again_and_asked_again(make, tmp_path, caplog):
    reward = make(options={"folder": str(tmp_path)})
    before = reward.score([picture()], ["process"])
    assert reward.score([picture()] * 2, ["once", "ab"]).tolist() == [10.0, 8.0]
    assert "its worker ended (exit status 3; its last words: cannot open model.bin)" in caplog.text
    assert reward.score([picture()], ["process"]) != before


def test_one_that_ends_twice_says_its_last_words_without_folders(make):
    reward = make()
    with pytest.raises(RewardError) as told:
        reward.score([picture()], ["end"])
    said = "mine: its worker ended twice: exit status 3; its last words: cannot open model.bin"
    assert str(told.value) == said
    with pytest.raises(RewardError, match="ended twice: signal SIGKILL, without a word"):
        reward.score([picture()], ["kill"])
    assert reward.score([picture()], ["a"]).tolist() == [7.0]  # the next request gets a new one


def test_an_error_of_the_class_is_told_and_the_worker_stays(make):
    reward = make()
    before = reward.score([picture()], ["process"])
    with pytest.raises(RewardError, match=r"^mine: ValueError: no table\.txt$"):
        reward.score([picture()], ["raise"])
    with pytest.raises(RewardError, match="mine: ValueError: could not convert"):
        reward.score([picture()], ["strange"])
    assert reward.score([picture()], ["process"]) == before


def test_one_that_takes_too_long_is_ended(make):
    reward = make(score_seconds=0.5)
    pid = int(reward.score([picture()], ["process"])[0])
    with pytest.raises(RewardError, match=r"mine: its worker gave no answer within 0\.50 s and was ended"):
        reward.score([picture()], ["sleep"])
    assert wait_until_gone(pid)
    assert reward.score([picture()], ["a"]).tolist() == [7.0]


def test_batches_are_halved_where_memory_runs_out(make, caplog):
    reward = make(batch=8)
    assert reward.score([picture()] * 8, ["small"] * 8).tolist() == [11.0] * 8
    assert "batches now hold 2 pictures" in caplog.text


def test_closing_ends_the_process(make):
    reward = make()
    pid = int(reward.score([picture()], ["process"])[0])
    reward.close()
    assert wait_until_gone(pid)
    with pytest.raises(RewardError, match="mine was closed"):
        reward.score([picture()], ["a"])
    reward.close()


def test_forgetting_it_ends_the_process(make, tmp_path):
    spec = WorkerSpec(place="reward.py:Reward")
    (tmp_path / "reward.py").write_text(REWARD)
    reward = WorkerReward(spec, "mine", folder=tmp_path, python=Path(sys.executable))
    pid = int(reward.score([picture()], ["process"])[0])
    del reward
    assert wait_until_gone(pid)


def test_it_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "reward.py").write_text(REWARD)
    code = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from PIL import Image
        from calibri.rewards.worker import WorkerReward, WorkerSpec
        reward = WorkerReward(WorkerSpec(place="reward.py:Reward"), "mine", folder=Path({str(tmp_path)!r}),
                              python=Path(sys.executable))
        image = Image.new("RGB", (4, 4))
        print(int(reward.score([image], ["process"])[0]), flush=True)
        reward.score([image], ["sleep"])  # in the middle of a request
    """)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.send_signal(signal.SIGKILL)
    assert wait_until_gone(pid)


def test_secrets_of_this_process_do_not_reach_it(make, tmp_path, monkeypatch):
    monkeypatch.setenv("CALIBRI_REWARD_TOKEN", "a-token-of-the-test")
    (tmp_path / "reward.py").write_text(
        "import os\nclass Reward:\n    def score(self, i, p):\n"
        "        return [float(sum(k.startswith('CALIBRI_') for k in os.environ))] * len(i)\n"
    )
    spec = WorkerSpec(place="reward.py:Reward")
    reward = WorkerReward(spec, "mine", folder=tmp_path, python=Path(sys.executable))
    assert reward.score([picture()], ["a"]).tolist() == [0.0]
    command = Path(f"/proc/{reward._process.pid}/cmdline").read_bytes()
    assert b"secret" not in command and b"token" not in command
    reward.close()


@pytest.mark.parametrize(
    "place, said",
    [
        ("reward.py:Absent", "AttributeError"),
        ("absent.py:Reward", "expected the file absent.py beside it"),
        ("no_such_module:Reward", "ModuleNotFoundError"),
        ("json:dumps", r"expected dumps to have score|not called|missing"),
    ],
)
def test_what_cannot_be_loaded_is_a_sentence(tmp_path, place, said):
    (tmp_path / "reward.py").write_text(REWARD)
    with pytest.raises(RewardError, match=said) as told:
        WorkerReward(WorkerSpec(place=place), "mine", folder=tmp_path, python=Path(sys.executable))
    assert str(tmp_path) not in str(told.value)


def test_the_revision_names_file_options_and_what_the_class_says(make, tmp_path):
    first = make().info.revision
    assert make().info.revision == first and first.endswith("-envgiven")
    assert make(options={"scale": 2.0}).info.revision != first
    own = make(options={"revision": "weights7"}).info.revision
    assert own.split("-")[0].endswith("+weights7")
    (tmp_path / "reward.py").write_text(REWARD + "# changed\n")
    assert make().info.revision != first


# ---- who may connect


def program(tmp_path, protocol=worker_main.PROTOCOL, secret="order['secret']", after="stream.read(1)"):
    """A worker that says another protocol or secret."""
    path = tmp_path / "program.py"
    path.write_text(
        f"import json, socket, struct, sys\norder = json.loads(sys.stdin.readline())\n"
        f"text = json.dumps({{'protocol': {protocol}, 'secret': {secret}, 'sizes': []}}).encode()\n"
        "connection = socket.create_connection(('127.0.0.1', order['port']))\n"
        "connection.sendall(struct.pack('>I', len(text)) + text)\n"
        f"stream = connection.makefile('rb')\n{after}\n"
    )
    return path


def test_another_version_is_refused(tmp_path):
    with pytest.raises(
        RewardError, match="mine: expected a worker of protocol 1, got 99: start calibri anew"
    ):
        WorkerProcess(Path(sys.executable), "mine", program=program(tmp_path, protocol=99))


def test_a_wrong_secret_is_refused(tmp_path, caplog):
    wrong = program(tmp_path, secret="'0' * 64", after="sys.stdin.read()")
    with pytest.raises(RewardError, match=r"mine: its worker did not connect within 1\.0 s"):
        WorkerProcess(Path(sys.executable), "mine", 1.0, program=wrong)
    assert "a connection without its secret was refused" in caplog.text


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\0\0\0\x02{}"])
def test_strangers_at_the_port_do_not_disturb(tmp_path, monkeypatch, sent):
    strangers = []
    launch = worker_process._launch

    def launch_after_a_stranger(python, path, name):
        held = [sock for sock in listeners if sock.fileno() >= 0]
        strangers.append(socket.create_connection(held[-1].getsockname()))
        strangers[-1].sendall(sent)
        strangers[-1].shutdown(socket.SHUT_WR)
        return launch(python, path, name)

    listeners = []
    create = socket.create_server

    def remember(*args, **options):
        listeners.append(create(*args, **options))
        return listeners[-1]

    monkeypatch.setattr(socket, "create_server", remember)
    monkeypatch.setattr(worker_process, "_launch", launch_after_a_stranger)
    process = WorkerProcess(Path(sys.executable), "mine")
    assert process.ask({"do": "fly"}, [], 10)["error"] == "WireError: expected load or score, got 'fly'"
    assert listeners[0].fileno() == -1  # nobody else gets in
    process.end()
    for stranger in strangers:
        stranger.close()


def test_an_interpreter_without_pillow_says_so(tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    (tmp_path / "reward.py").write_text(REWARD)
    with pytest.raises(RewardError, match=r"ended twice: exit status 1; .*No module named 'PIL'"):
        WorkerReward(
            WorkerSpec(place="reward.py:Reward"), "mine", folder=tmp_path, python=bare / "bin" / "python"
        )


@pytest.mark.parametrize(
    "name, own",
    [
        ("worker_main.py", {"PIL"}),
        ("hpsv3_adapter.py", {"hpsv3", "torch", "yaml", "transformers", "huggingface_hub"}),
    ],
)
def test_what_runs_there_imports_nothing_of_this_project(name, own):
    text = Path(worker_main.__file__).with_name(name).read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith(("import ", "from "))]
    modules = {line.split()[1].split(".")[0] for line in lines}
    assert modules - own <= set(sys.stdlib_module_names) and "pickle" not in modules
    ast.parse(text, feature_version=(3, 9))


# ---- messages


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\0\0\0\0",
        b"\0\0\0\x05[1,2]",
        b"\0\0\0\x02{}",
        b"\x7f\xff\xff\xff",
        b'\0\0\0\x0d{"sizes":[5]}abc',
        b'\0\0\0\x0e{"sizes":[-5]}',
        b'\0\0\0\x10{"sizes":[true]}',
        b'\0\0\0\x0d{"sizes":[99]}' + bytes(99),
    ],
)
def test_what_is_no_message_is_refused(data):
    import io

    with pytest.raises(worker_main.WireError):
        worker_main.read(io.BytesIO(data), 1000, 50)


def test_messages_come_back_as_they_were():
    import io

    data = worker_main.pack({"a": ["é", "\ud800"]}, [b"", b"xyz"])
    header, blobs = worker_main.read(io.BytesIO(data))
    assert header == {"a": ["é", "\ud800"], "sizes": [0, 3]} and blobs == [b"", b"xyz"]
    assert worker_main.read(io.BytesIO(b"")) is None
