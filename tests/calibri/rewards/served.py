"""A reward served on this machine, and requests to it: for the tests of `remote` and of its server."""

from __future__ import annotations

import http.client
import json
import threading
import time

import numpy as np
from PIL import Image

from calibri.rewards.base import RewardInfo
from calibri.rewards.remote import KIND, SCORE
from calibri.rewards.server import RewardServer

SECRET = "a-token-that-only-this-test-knows"
PROMPTS = ["", "é", "a" * 3000, "x\ny", "\ud800", "a", "b", "c"]


class Levels:
    """The mean level of a picture and the length of its prompt. Says how many scored at once."""

    def __init__(self, revision="w1-p1", source="/srv/somebody/weights"):
        self.info = RewardInfo(
            name="levels",
            role="reward",
            version="1",
            description="levels",
            range_hint=(0.0, 1.0),
            source=source,
            revision=revision,
        )
        self.running, self.most, self.calls = 0, 0, []
        self.fails: Exception | None = None
        self._lock = threading.Lock()

    def score(self, images, prompts):
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.calls.append(len(images))
        time.sleep(0.02)
        try:
            if self.fails is not None:
                raise self.fails
            assert all(image.mode == "RGB" for image in images)
            return np.array([np.asarray(i).astype(float).sum() + len(p) for i, p in zip(images, prompts)])
        finally:
            with self._lock:
                self.running -= 1


class Served:
    def __init__(self, token=SECRET, **options):
        self.reward = Levels(**options)
        self.server = RewardServer(self.reward, "127.0.0.1", 0, token)
        self.url = self.server.url
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def request(self, method, path, body=None, **headers):
        """(status, answer) of one request with these headers alone."""
        host, port = self.server.server_address[:2]
        connection = http.client.HTTPConnection(host, port, timeout=10)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, json.loads(data)

    def send(self, body, **more):
        headers = {"Authorization": f"Bearer {SECRET}", "Content_Type": KIND, **more}
        return self.request("POST", SCORE, body, **headers)


def pictures(count=5):
    """`count` pictures in RGB and three of other modes: as many as PROMPTS where it is 5."""
    draw = np.random.Generator(np.random.PCG64(1))
    made = [Image.fromarray(draw.integers(0, 255, (9, 7, 3), dtype=np.uint8)) for _ in range(count)]
    return [*made, made[0].convert("L"), made[0].convert("RGBA"), made[0].convert("P")]
