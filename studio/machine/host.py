"""ModelHost: the one loaded backbone, shared by people and searches."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calibri.errors import CalibriError, RenderCancelled
from calibri.memory import is_out_of_memory
from calibri.words import shown_name, without_paths
from studio.machine.background import Background
from studio.machine.queue import Cancel, HostError, OnWait, Priority, PriorityLock

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.sampling.renderer import Rendered, RenderRequest

log = logging.getLogger(__name__)

Phase = Literal["empty", "loading", "ready", "failed"]
OnStep = Callable[..., None]

SWITCHED = "Another backbone was loaded meanwhile. Try again."


@dataclass(frozen=True)
class HostStatus:
    """What the machine does now. `revision` grows with every change: pages redraw only then."""

    phase: Phase = "empty"
    backbone: str = ""
    detail: str = ""
    device: str = ""
    started: float = 0.0  # time.monotonic() at the start of the phase
    activity: str = ""
    waiting: int = 0
    revision: int = 0
    memory: str = ""
    loads: int = 0  # since the start: a page that saw a smaller number shows another backbone's layout


class Memory:
    """How much memory the studio uses, in words that change with large changes only: pages redraw then."""

    STEP = 0.06  # of what is shown

    def __init__(self) -> None:
        self._shown, self._where = 0.0, ""

    def words(self) -> str:
        """`2.1 GB`, of the GPU where one is used; empty where it is not known."""
        used, where = memory_in_use()
        if where != self._where or abs(used - self._shown) > self.STEP * self._shown:
            self._shown, self._where = used, where
        if not self._shown:
            return ""
        giga = self._shown / 1e9
        return f"{giga:.2g} GB{self._where}" if giga < 9.95 else f"{giga:.0f} GB{self._where}"


def memory_in_use() -> tuple[float, str]:
    """Bytes in use, and where: allocated on the GPU if CUDA is in use, else resident in this process."""
    torch = sys.modules.get("torch")  # not imported for this: it takes seconds
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        return float(torch.cuda.memory_allocated()), " on the GPU"
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0, ""
    import resource  # where there is /proc

    return float(pages * resource.getpagesize()), ""


def _load_backbone(name: str, device: str, dtype: str) -> Backbone:
    from calibri.backbones.loading import load_backbone  # torch and diffusers: seconds

    return load_backbone(name, device=device, dtype=dtype)


def _explain(error: Exception, name: str) -> str:
    """Why a backbone could not be loaded."""
    if isinstance(error, CalibriError):
        return str(error)
    log.error("loading %s failed", name, exc_info=error)
    if is_out_of_memory(error):
        return f"{name} does not fit into the memory of this device. Choose a smaller one or dtype bfloat16."
    return f"{name} could not be loaded ({type(error).__name__}: {error})."


class ModelHost:
    """One loaded backbone shared by all visitors and searches.

    `loader(name, device, dtype) -> Backbone`: tests pass a tiny one. Every public method may be called from
    any thread; only the holder of the lock uses the pipeline.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
        loader: Callable[[str, str, str], Backbone] = _load_backbone,
    ) -> None:
        self._device, self._dtype, self._loader = device, dtype, loader
        self._batch_size = batch_size
        self._lock = PriorityLock()
        self._state_lock = threading.Lock()
        self._ready = threading.Event()
        self._background = Background("load-backbone")
        self._status = HostStatus()
        self._backbone: Backbone | None = None
        self._renderer: Any = None
        self._reservations: list[str] = []
        self._memory = Memory()
        self._known: dict[str, str] = {}

    # what it is doing

    @property
    def status(self) -> HostStatus:
        with self._state_lock:
            return replace(
                self._status,
                activity=self._lock.holder,
                waiting=self._lock.waiting,
                memory=self._memory.words(),
            )

    @property
    def batch_size(self) -> int:
        """The batch size in force: halved by every shortage of memory until the next load."""
        return self._renderer.batch_size if self._renderer is not None else self._batch_size

    @property
    def backbone(self) -> Backbone | None:
        """The loaded backbone, or None. Its pipeline may only run inside `hold`."""
        return self._backbone

    def _set(self, **changes: Any) -> None:
        with self._state_lock:
            self._change(**changes)

    def _change(self, **changes: Any) -> None:
        self._status = replace(self._status, revision=self._status.revision + 1, **changes)

    @property
    def known(self) -> dict[str, str]:
        """Shown name → what `load` was given (it may be a local path), for everything tried so far."""
        with self._state_lock:
            return dict(self._known)

    # loading

    def load(self, name: str, *, wait: bool = False) -> None:
        """Load a backbone in the background; the loaded one is dropped first.

        Raises HostError while a search or another load uses the model.
        """
        with self._state_lock:
            if self._reservations:
                raise HostError(
                    f"The backbone cannot be changed while {self._reservations[0]} runs. Stop it first."
                )
            if self._status.phase == "loading":
                raise HostError(f"{self._status.backbone} is still loading. Wait until it is ready.")
            self._ready.clear()
            self._known[shown_name(name)] = name
            self._change(phase="loading", backbone=shown_name(name), detail="", started=time.monotonic())
        self._background.ensure(partial(self._load, name))
        if wait:
            self.wait_ready()

    def _load(self, name: str) -> None:
        if self._lock.holder:
            self._set(detail="waiting for the current pictures")
        with self._lock.hold(Priority.INTERACTIVE, f"loading {shown_name(name)}"):
            self._set(detail="dropping the last one" if self._backbone is not None else "")
            self._drop()
            self._set(detail="reading its weights")
            try:
                self._open(name)
            except Exception as error:
                words = without_paths(_explain(error, shown_name(name)))
                self._set(phase="failed", detail=words, started=time.monotonic())
            finally:
                if self._backbone is None:
                    self._free()  # what a load that failed had already taken
                self._ready.set()

    def _open(self, name: str) -> None:
        from calibri.sampling.renderer import Renderer  # torch

        backbone = self._loader(name, self._device, self._dtype)
        self._renderer = Renderer(backbone, batch_size=self._batch_size)
        self._backbone, spec = backbone, backbone.spec
        facts = {"backbone": spec.name, "device": str(backbone.pipeline.device), "detail": ""}
        with self._state_lock:
            self._known[spec.name] = name
            self._change(phase="ready", loads=self._status.loads + 1, started=time.monotonic(), **facts)

    def _drop(self) -> None:
        if self._backbone is not None:
            self._backbone = self._renderer = None
            self._free()

    @staticmethod
    def _free() -> None:
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def wait_ready(self, *, cancel: Cancel | None = None, on_wait: OnWait | None = None) -> Backbone:
        """Block until a backbone is loaded, and return it. Raises HostError where loading failed."""
        if self._status.phase == "loading" and on_wait is not None:
            on_wait(1, f"loading {self._status.backbone}")
        while not self._ready.wait(0.05):
            if self._status.phase == "empty":
                raise HostError("No backbone is loaded. Choose one first.")
            if cancel is not None and cancel():
                raise RenderCancelled("Stopped while the backbone was loading.")
        if self._backbone is None:
            raise HostError(self._status.detail or "No backbone is loaded.")
        return self._backbone

    # using it

    @contextmanager
    def reserve(self, by: str) -> Iterator[None]:
        """Keep the backbone while a long job (`by`, in words) runs: nobody can switch it meanwhile."""
        with self._state_lock:
            self._reservations.append(by)
        try:
            yield
        finally:
            with self._state_lock:
                self._reservations.remove(by)

    @contextmanager
    def hold(
        self, priority: Priority, label: str, *, cancel: Cancel | None = None, on_wait: OnWait | None = None
    ) -> Iterator[Backbone]:
        """The backbone for one batch of work. A long job takes it anew for each batch, to let people in."""
        self.wait_ready(cancel=cancel, on_wait=on_wait)
        with self._lock.hold(priority, label, cancel=cancel, on_wait=on_wait):
            if self._backbone is None:
                raise HostError(SWITCHED)
            yield self._backbone

    def render(
        self,
        requests: Sequence[RenderRequest],
        *,
        priority: Priority = Priority.INTERACTIVE,
        label: str = "a picture",
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        on_wait: OnWait | None = None,
    ) -> list[Rendered]:
        """Pictures in the order of `requests`. The lock is taken for one batch at a time.

        Raises what Renderer.render raises, and HostError where another backbone was loaded between two
        batches.
        """
        backbone = self.wait_ready(cancel=cancel, on_wait=on_wait)
        renderer = self._renderer
        if renderer is None or renderer.backbone is not backbone:
            raise HostError(SWITCHED)

        @contextmanager
        def turn() -> Iterator[None]:
            with self.hold(priority, label, cancel=cancel, on_wait=on_wait) as now:
                if now is not backbone:
                    raise HostError(SWITCHED)
                yield

        return renderer.render(requests, on_step=on_step, cancel=cancel, turn=turn)
