"""Idle threads of OpenMP sleep soon: read off what the runtime itself says when a program loads it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from calibri.threads import shorten_thread_waits
from tests.tiny import tiny_flux

MINE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def spins(*command: str, **environment: str) -> str:
    """GOMP_SPINCOUNT as GNU's runtime has it in this program."""
    clean = {k: v for k, v in os.environ.items() if k not in MINE} | {"OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=clean | environment, check=True
    )
    found = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)
    if not found:
        pytest.skip("torch is built with another runtime here")
    assert len(set(found)) == 1
    return found[0]


def test_the_command_line_shortens_the_waits_before_it_loads_torch(tmp_path):
    tiny_flux(tmp_path / "tiny")
    out = str(tmp_path / "out.png")
    render = ("-m", "calibri.cli", "render", "a cube", "--backbone", str(tmp_path / "tiny"), "--steps", "1")
    assert spins(*render, "-o", out) == "1000"
    assert spins(*render, "-o", out, GOMP_SPINCOUNT="77") == "77"


def test_the_studio_shortens_the_waits_before_it_loads_torch():
    start = "from studio.settings import use_threads; use_threads(0); import torch"
    assert spins("-c", start) == "1000"
    assert spins("-c", "import torch") != "1000"


@pytest.mark.parametrize("name", MINE)
def test_what_the_environment_says_holds(monkeypatch, name):
    for each in MINE:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "ACTIVE" if name == "OMP_WAIT_POLICY" else "5")
    before = dict(os.environ)
    shorten_thread_waits()
    assert dict(os.environ) == before


def test_a_program_that_loaded_torch_before_is_told_so():
    code = "from calibri.threads import shorten_thread_waits as s; print(s()); import torch; print(s())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
