"""The wheel, installed outside the checkout: command line and studio work with nothing but what it brings."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from PIL import Image

from tests.browser.running import free_port

ROOT = Path(__file__).resolve().parent.parent
PARTS = (
    "app.py",
    "calibri",
    "studio",
    "assets",
    "pyproject.toml",
    "requirements.txt",
    "README.md",
    "LICENSE",
)
PATIENCE = 240.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder of an earlier day gets into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        if (ROOT / name).is_dir():
            skipped = shutil.ignore_patterns("__pycache__", "screenshots")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=skipped)
        else:
            shutil.copy2(ROOT / name, source / name)
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    [made] = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel alone. What it depends on is read from this one's
    packages, whose link to the checkout does not count there: only a real site folder's .pth files do.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    install = ("--python", python, "install", "--quiet", "--no-deps", str(wheel))
    # From another folder: pip would take the checkout's own metadata for an installed package.
    elsewhere = {"cwd": folder, "env": clean_environment(folder)}
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, **elsewhere)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def clean_environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CALIBRI", "HF_", "PYTEST"))}
    return kept | {"HOME": str(home), "GOMP_SPINCOUNT": "1000"}


def run(program: Path, *arguments: object, folder: Path) -> str:
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_imported_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import calibri, studio; print(calibri.__file__); print(studio.__file__)"
    for line in run(installed / "python", "-c", code, folder=tmp_path).split():
        assert Path(line).is_relative_to(installed.parent)


def test_the_wheel_names_all_that_it_depends_on(wheel: Path) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    with zipfile.ZipFile(wheel) as files:
        [name] = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
        lines = email.message_from_bytes(files.read(name)).get_all("Requires-Dist", [])
    told = {str(Requirement(line)) for line in lines if "extra ==" not in line}
    assert told == {str(Requirement(line)) for line in wanted}


def test_render(installed: Path, tmp_path: Path) -> None:
    run(installed / "calibri", "render", "a red cube", "--steps", 2, "-o", "cube.png", folder=tmp_path)
    with Image.open(tmp_path / "cube.png") as image:
        assert image.size == (128, 128)


def test_search(installed: Path, tmp_path: Path) -> None:
    limits = ("--generations", 1, "--steps", 2, "--bucket", 2, "--validation-pairs", 4, "--held-out-pairs", 8)
    rewards = ("--granularity", "block", "--reward", "tabletop-quality")
    run(installed / "calibri", "search", *rewards, *limits, "--out", "found", folder=tmp_path)
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "found/journal.jsonl").read_text().splitlines()]
    assert "generation" in kinds and "result" in kinds


@contextmanager
def studio(installed: Path, folder: Path) -> Iterator[httpx.Client]:
    """`calibri studio`, ended by its process id."""
    port = free_port()
    command = [str(installed / "calibri"), "studio", "--port", str(port), "--data", str(folder / "data")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=clean_environment(folder), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            end = time.monotonic() + PATIENCE
            while True:
                assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                try:
                    client.get("/")
                    break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in (folder / "log").read_text()


def test_studio(installed: Path, tmp_path: Path) -> None:
    """Pages with their scripts and styles, the database with its migrations, and a picture."""
    with studio(installed, tmp_path) as client:
        config = client.get("/config").text
        for part in (
            "scales/desk.js",
            "ui/chart.js",
            "ui/filling.js",
            "ui/storage.js",
            "ui/studio.css",
            "library/library.css",
        ):
            text = (ROOT / "studio" / part).read_text(encoding="utf-8")
            assert json.dumps(text.strip()[:80])[1:-1] in config + json.dumps(client.get("/").text), part
        for path in ("/scales", "/search", "/diagnose", "/library", "/studies", "/vote", "/results"):
            assert client.get(path).status_code == 200, path
        assert "addEventListener" in client.get("/ballot").text
        assert "No study is open" in client.post("/ballot/look", json={"rater": "ab" * 16}).json()["text"]
        asked = {"data": ["a red cube", 1, 2, 1.0, ""]}
        event = client.post("/gradio_api/call/render", json=asked)
        answer = client.get(f"/gradio_api/call/render/{event.json()['event_id']}").text
        assert "event: complete" in answer, answer
