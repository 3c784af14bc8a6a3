"""A reward in a process and an environment of its own, for what cannot live beside this one's packages.

The process is on this machine and connects to a port of the loopback that takes it alone: it shows a secret
that it was given through a pipe. Headers are JSON, pictures PNG (`worker_main`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import tomllib
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, ValidationError

from calibri.errors import RewardError, sentence
from calibri.rewards.base import Frozen, RewardInfo, check_counts
from calibri.rewards.catalog import Kind, Role
from calibri.rewards.environments import make_environment
from calibri.rewards.pictures import encode_picture
from calibri.rewards.worker_process import Ended, WorkerProcess
from calibri.words import without_paths

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


class WorkerSpec(Frozen):
    """A class and the environment that it needs.

    `place`: `module:Class`, which that environment can import, or `FILE.py:Class`, a file. It is called with
    the device, if it takes one, and `options`; it scores by `score(images, prompts)`, or is called so itself.
    `requirements`: as pip reads them; Pillow comes in any case. `python`: a version such as 3.10; empty for
    this interpreter's. `batch`: pictures at once, at most. `load_seconds`, `score_seconds`: how long loading,
    and one batch, may take.
    """

    place: str = Field(pattern=r"^(?:[\w.]+|.+\.py):[\w.]+$")
    requirements: tuple[str, ...] = ()
    python: str = ""
    options: dict[str, str | int | float | bool] = {}
    role: Role = "reward"
    kind: Kind = "bt"
    description: str = ""
    licence: str = ""
    range_hint: tuple[float, float] = (0.0, 1.0)
    batch: int = Field(default=8, ge=1, le=256)
    load_seconds: float = Field(default=3600.0, gt=0)
    score_seconds: float = Field(default=600.0, gt=0)


def load_described(
    content: bytes, folder: Path, name: str, device: str = "cpu", **options: Any
) -> WorkerReward:
    """The reward that TOML describes: the fields of WorkerSpec. `folder`: where it lies. `options`: more
    options for the class. Raises RewardError.
    """
    try:
        spec = WorkerSpec.model_validate(tomllib.loads(content.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RewardError(f"{name}: expected TOML, got {error}") from error
    except ValidationError as error:
        raise RewardError(f"{name}: {sentence(error)}") from error
    given = {key: str(value) for key, value in options.items()}
    spec = spec.model_copy(update={"options": {**spec.options, **given}})
    return WorkerReward(spec, name, device, folder=folder)


class WorkerReward:
    """A reward whose class lives in another process. Safe to call from any thread.

    Where the process ends by itself it is started again, once, and the request is made again. `folder`: where
    `FILE.py` lies. `python`: an interpreter to use instead of an environment made from the requirements.
    Raises RewardError.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        name: str,
        device: str = "cpu",
        *,
        folder: Path | None = None,
        python: Path | None = None,
    ) -> None:
        self._spec, self._name, self._device = spec, name, str(device)
        self._batch = spec.batch
        self._lock = threading.RLock()
        self._closed = False
        self._process: WorkerProcess | None = None
        self._file = _find_file(spec, name, folder)
        if python is None:
            made = make_environment(spec.requirements, spec.python, name=name)
            python, environment = made.python, made.packages
        else:
            environment = "given"
        self._python = python
        own = self._try_twice(lambda process: self._revision)
        digest = _identify(spec, self._file, with_source=not own)
        self.info = RewardInfo(
            name=name,
            role=spec.role,
            version="1",
            description=spec.description or f"{spec.place.rpartition(':')[2]} in an environment of its own",
            range_hint=spec.range_hint,
            kind=spec.kind,
            licence=spec.licence,
            source=name,
            # What stands before the first hyphen must not change within a run.
            revision=f"{digest}{own and '+'}{own}-env{environment}",
        )

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """As Reward.score. Where memory runs out the batch is halved, and later ones stay so small."""
        check_counts(images, prompts, self._name)
        scores: list[float] = []
        with self._lock:
            while len(scores) < len(images):
                part = slice(len(scores), len(scores) + self._batch)
                header = {"do": "score", "prompts": list(prompts[part])}
                blobs = [encode_picture(image) for image in images[part]]
                answer = self._try_twice(partial(_ask, header, blobs, self._spec.score_seconds))
                if "scores" in answer:
                    scores += answer["scores"]
                elif answer.get("memory") and len(blobs) > 1:
                    self._batch = len(blobs) // 2
                    log.warning("%s: out of memory: batches now hold %d pictures", self._name, self._batch)
                else:
                    raise RewardError(f"{self._name}: {without_paths(str(answer.get('error')))}")
        return np.array(scores, dtype=np.float64)

    def close(self) -> None:
        """Ends the process. Scoring afterwards is an error."""
        with self._lock:
            self._closed = True
            self._end()

    def _try_twice(self, ask: Callable[[WorkerProcess], Any]) -> Any:
        """What `ask` gets of the process; where that ends, once more of a new one."""
        if self._closed:
            raise RewardError(f"{self._name} was closed: load it again to score with it")
        for last in (False, True):
            try:
                return ask(self._process or self._start())
            except Ended as ended:
                self._end()
                if last:
                    raise RewardError(f"{self._name}: its worker ended twice: {ended}") from ended
                log.warning("%s: its worker ended (%s); it is started again", self._name, ended)
            except BaseException:
                self._end()  # a late answer must not be taken for that of the next request
                raise
        raise AssertionError("unreachable")

    def _start(self) -> WorkerProcess:
        """A process with the class loaded. Raises Ended and RewardError."""
        process = WorkerProcess(self._python, self._name)
        self._process = process
        self._finalizer = weakref.finalize(self, process.end)
        header = {
            "do": "load",
            "place": self._spec.place,
            "path": None if self._file is None else str(self._file),
            "device": self._device,
            "options": self._spec.options,
        }
        with process.showing():
            answer = process.ask(header, [], self._spec.load_seconds)
        if "error" in answer:
            raise RewardError(
                f"{self._name}: {without_paths(self._spec.place)} cannot be loaded: "
                f"{without_paths(str(answer['error']))}"
            )
        self._revision = str(answer.get("revision", ""))
        return process

    def _end(self) -> None:
        if self._process is not None:
            self._finalizer()
            self._process = None


def _ask(
    header: dict[str, Any], blobs: list[bytes], seconds: float, process: WorkerProcess
) -> dict[str, Any]:
    return process.ask(header, blobs, seconds)


def _identify(spec: WorkerSpec, file: Path | None, with_source: bool) -> str:
    """16 hexadecimal digits for what is asked of environment and class. `with_source`: where the class does
    not say which weights it has.
    """
    asked = spec.model_dump(mode="json", include={"place", "requirements", "python", "options"})
    if not with_source:
        asked["options"].pop("source", None)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    digest.update(b"" if file is None else file.read_bytes())
    return digest.hexdigest()[:16]


def _find_file(spec: WorkerSpec, name: str, folder: Path | None) -> Path | None:
    """The file that holds the class, if its place names one. Raises RewardError."""
    file = spec.place.rpartition(":")[0]
    if not file.endswith(".py"):
        return None
    path = (folder or Path.cwd()) / file
    if not path.is_file():
        raise RewardError(f"{name}: expected the file {Path(file).name} beside it, got none")
    return path.absolute()
