"""The other side of `calibri.rewards.worker`: loads a class and scores what comes over one connection.

This file is run as it is by the Python of another environment, 3.9 or newer. It needs the standard library
and Pillow, and imports nothing of calibri. The message format is also that of `calibri.rewards.remote`.

A message: four bytes, the length of the header, big-endian; the header, a JSON object whose `sizes` are those
of the blobs; the blobs. Pictures are PNG. Nothing here reads or writes a pickle.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback
import types
from typing import Any, BinaryIO

PROTOCOL = 1
LONGEST_HEADER = 16 * 2**20
LARGEST_MESSAGE = 2**30
HELLO = 4096  # bytes of a greeting, at most


class WireError(Exception):
    """What came is no message."""


def pack(header: dict[str, Any], blobs: Any = ()) -> bytes:
    """One message."""
    text = json.dumps({**header, "sizes": [len(blob) for blob in blobs]}).encode()
    return b"".join([struct.pack(">I", len(text)), text, *blobs])


def read(
    stream: BinaryIO, longest: int = LONGEST_HEADER, largest: int = LARGEST_MESSAGE
) -> tuple[dict[str, Any], list[bytes]] | None:
    """(header, blobs) of the next message; None where the stream ends before it. Raises WireError."""
    start = stream.read(4)
    if not start:
        return None
    length = struct.unpack(">I", start)[0] if len(start) == 4 else 0
    if not 2 <= length <= longest:
        raise WireError(f"expected a header of 2 to {longest} bytes, got {length}")
    try:
        header = json.loads(_exactly(stream, length))
    except (ValueError, RecursionError) as error:
        raise WireError("expected a header in JSON") from error
    sizes = header.get("sizes") if isinstance(header, dict) else None
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes):
        raise WireError("expected an object with the sizes of what follows")
    if sum(sizes) > largest:
        raise WireError(f"expected at most {largest} bytes, got {sum(sizes)}")
    return header, [_exactly(stream, size) for size in sizes]


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if data is None or len(data) != size:
        raise WireError(f"expected {size} bytes, got {len(data or b'')}")
    return data


# ---- the worker


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    _watch(os.getppid())
    import PIL

    connection = socket.create_connection(("127.0.0.1", int(order["port"])), 30)
    connection.settimeout(None)
    stream = connection.makefile("rb")
    hello = {"protocol": PROTOCOL, "secret": order["secret"], "pillow": PIL.__version__}
    connection.sendall(pack({**hello, "python": ".".join(map(str, sys.version_info[:3]))}))
    welcome = read(stream)
    if welcome is None or not welcome[0].get("ok"):
        sys.exit("the other side refused this worker")
    worker = Worker()
    while True:
        message = read(stream)
        if message is None:
            break
        connection.sendall(pack(worker.answer(*message)))
    worker.close()
    sys.stderr.flush()
    os._exit(0)  # threads of the class do not hold it


def _watch(parent: int) -> None:
    """Ends this process when the one that started it has ended, however that happened."""
    held = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)  # what the class prints

    def pipe_ends() -> None:
        while os.read(held, 4096):
            pass
        os._exit(0)

    def parent_ends() -> None:  # where another child of it keeps the pipe open
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    for wait in (pipe_ends, parent_ends) if os.name == "posix" else (pipe_ends,):
        threading.Thread(target=wait, daemon=True).start()


class Worker:
    """A class of somebody's, loaded once."""

    def __init__(self) -> None:
        self.made: Any = None

    def answer(self, header: dict[str, Any], blobs: list[bytes]) -> dict[str, Any]:
        try:
            if header.get("do") == "load":
                return self.load(header)
            if header.get("do") == "score":
                return {"scores": self.score(header["prompts"], blobs)}
            raise WireError(f"expected load or score, got {header.get('do')!r}")
        except Exception as error:
            said = " ".join(str(error).split())
            name = type(error).__name__
            memory = isinstance(error, MemoryError) or "out of memory" in said.lower()
            error_text = f"{name}: {said}" if said else name
            return {"error": error_text, "memory": memory, "trace": traceback.format_exc()}

    def load(self, header: dict[str, Any]) -> dict[str, Any]:
        module, _, attribute = str(header["place"]).partition(":")
        found: Any = _run_file(header["path"]) if header.get("path") else importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        options = dict(header.get("options") or {})
        device = str(header.get("device", "cpu"))
        for arguments, named in (((), {"device": device, **options}), ((device,), options), ((), options)):
            try:
                inspect.signature(found).bind(*arguments, **named)
            except TypeError:
                continue
            self.made = found(*arguments, **named)
            break
        else:
            given = ", ".join(["the device", *options])
            raise TypeError(f"{attribute} is not called with {given}")
        if not callable(getattr(self.made, "score", self.made)):
            raise TypeError(f"expected {attribute} to have score(images, prompts)")
        info = getattr(self.made, "info", None)
        revision = getattr(self.made, "revision", "") or getattr(info, "revision", "")
        return {"revision": str(revision or "")}

    def score(self, prompts: list[str], blobs: list[bytes]) -> list[float]:
        from PIL import Image

        images = [Image.open(io.BytesIO(blob), formats=["PNG"]).convert("RGB") for blob in blobs]
        found = getattr(self.made, "score", self.made)(images, prompts)
        scores = [float(score) for score in found]
        if len(scores) != len(images):
            raise ValueError(f"expected {len(images)} scores, got {len(scores)}")
        return scores

    def close(self) -> None:
        close = getattr(self.made, "close", None)
        if callable(close):
            close()


def _run_file(path: str) -> types.ModuleType:
    module = types.ModuleType("calibri_worker_reward")
    module.__file__ = path
    sys.modules[module.__name__] = module
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), module.__dict__)
    return module


if __name__ == "__main__":
    main()
