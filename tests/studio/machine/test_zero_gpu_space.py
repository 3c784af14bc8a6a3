"""The whole studio with the hub's own package `spaces`, where that is installed."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.browser.running import free_port
from tests.fresh import ROOT, run_fresh

spaces = pytest.importorskip("spaces", reason="the hub's package spaces is not installed")

PROMPT = "a red cube left of a blue sphere"


class DeviceService(ThreadingHTTPServer):
    """Stands in for ZeroGPU's service on loopback, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Device)


class _Device(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        assert isinstance(self.server, DeviceService)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append((parts.path, query))
        lent = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "allowed"}
        body = json.dumps(lent if parts.path == "/schedule" else {}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def service() -> Iterator[DeviceService]:
    server = DeviceService()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def space(service: DeviceService, tmp_path: Path) -> Iterator[str]:
    """The address of a studio that takes itself for a Space on ZeroGPU."""
    (tmp_path / "cgroup").write_text("0::/space\n", encoding="utf-8")
    port = free_port()
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "SPACE_ID": "somebody/studio",
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{service.server_port}",
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(tmp_path / "cgroup"),
        "ZEROGPU_OFFLOAD_DIR": str(tmp_path / "tensors"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.studio.machine.zero_gpu_space", str(port), str(tmp_path / "data")],
        cwd=tmp_path,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
            try:
                if httpx.get(f"{url}/config", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)
        log.close()


@pytest.mark.slow
def test_a_space_on_zero_gpu_renders_in_calls_for_the_visitor_who_asked(
    space: str, service: DeviceService, tmp_path: Path
) -> None:
    from gradio_client import Client

    payload = base64.urlsafe_b64encode(json.dumps({"user": "ann"}).encode()).decode().rstrip("=")
    visitor = f"head.{payload}.mark"
    client = Client(space, headers={"x-ip-token": visitor}, verbose=False, download_files=str(tmp_path))
    path, facts = client.predict(PROMPT, 7, 8, 1.0, "", api_name="/render")
    assert facts["steps"] == 8 and facts["rewards"]
    from calibri.backbones.loading import load_backbone
    from calibri.sampling.renderer import Renderer, RenderRequest

    [plain] = Renderer(load_backbone("tabletop", device="cpu")).render([RenderRequest(PROMPT, 7, 8)])
    made = np.asarray(Image.open(path).convert("RGB"), dtype=int)
    assert np.abs(made - np.asarray(plain.image, dtype=int)).max() <= 1
    calls = [path for path, _ in service.asked]
    assert calls[0] == "/startup-report" and calls[1:] == ["/schedule", "/allow", "/release"]
    [asked] = [query for path, query in service.asked if path == "/schedule"]
    assert asked["token"] == visitor  # whose quota it is
    assert 10 <= int(asked["durationSeconds"]) <= 120
    [released] = [query for path, query in service.asked if path == "/release"]
    assert released["fail"] == "false"


def test_outside_of_zero_gpu_the_package_changes_nothing(tmp_path: Path) -> None:
    code = (
        "from studio.machine.zero_gpu import ZeroGpu, find_lend\n"
        "gpu = ZeroGpu(find_lend())\n"
        "print(gpu._call == gpu._paint)\n"
    )
    folder = Path(spaces.__file__).parents[1]
    assert run_fresh(code, tmp_path, folder).strip() == "True"
