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
from typing import TYPE_CHECKING, Any, Literal

from calibri.backbones.options import USUAL, LoadOptions, replace_given
from calibri.errors import CalibriError, RenderCancelled
from calibri.memory import bytes_in_use, is_out_of_memory
from calibri.words import shown_name, without_paths
from studio.machine.background import Background
from studio.machine.queue import Cancel, HostError, OnWait, Priority, PriorityLock

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.sampling.renderer import Rendered, RenderRequest
    from studio.machine.zero_gpu import ZeroGpu

log = logging.getLogger(__name__)

Phase = Literal["empty", "loading", "ready", "failed"]
OnStep = Callable[..., None]

SWITCHED = "Another backbone was loaded meanwhile. Try again."
END_PATIENCE = 10.0  # seconds that `close` waits for a load under way


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
    mode: str = ""  # how it was loaded, in words, where that is not the usual
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
    return float(bytes_in_use()), ""


def _load_backbone(name: str, options: LoadOptions) -> Backbone:
    from calibri.backbones.loading import load_backbone  # torch and diffusers: seconds

    return load_backbone(name, options=options)


def _check_backbone(name: str, options: LoadOptions) -> None:
    from calibri.backbones.loading import check_backbone

    check_backbone(name, options)


def _explain(error: Exception, name: str) -> str:
    """Why a backbone could not be loaded."""
    if isinstance(error, CalibriError):
        return str(error)
    log.error("loading %s failed", name, exc_info=error)
    if is_out_of_memory(error):
        return f"{name} does not fit into the memory of this device. Choose a smaller one or dtype bfloat16."
    return f"{name} could not be loaded ({type(error).__name__}: {error})."


def _name_mode(backbone: Backbone) -> str:
    """How it was loaded, beside on which device: `bfloat16, group offload`."""
    return replace(backbone.options, device="auto").words


class ModelHost:
    """One loaded backbone shared by all visitors and searches.

    `options`: how backbones are loaded unless a load says otherwise; `device` and `dtype` come before theirs.
    `loader(name, options) -> Backbone`: tests pass a tiny one. `checker(name, options)`: raises for what
    cannot be loaded, while the last backbone is still there. `lent`: the GPU is ZeroGPU's; then the
    one backbone is loaded in the main thread, before the server starts. Every public method may be called
    from any thread; only the holder of the lock uses the pipeline.
    """

    def __init__(
        self,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int = 8,
        options: LoadOptions = USUAL,
        loader: Callable[[str, LoadOptions], Backbone] = _load_backbone,
        checker: Callable[[str, LoadOptions], None] = _check_backbone,
        lent: ZeroGpu | None = None,
    ) -> None:
        self._lent = lent
        self._options = replace_given(options, device=device, dtype=dtype)
        self._loader, self._checker = loader, checker
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
        self._last: tuple[str, LoadOptions] | None = None  # of the last backbone that was ready

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
    def is_lent(self) -> bool:
        """Whether each render borrows a GPU of ZeroGPU."""
        return self._lent is not None

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

    @property
    def options(self) -> LoadOptions:
        """How the last backbone was loaded, and the next one is unless it is said otherwise."""
        return self._options

    @property
    def last(self) -> tuple[str, LoadOptions] | None:
        """What to load to have the last backbone back that was ready: its name or folder, and how."""
        return self._last

    # loading

    def load(self, name: str, options: LoadOptions | None = None, *, wait: bool = False) -> None:
        """Load a backbone in the background; `options`: None for those of the last load. What can be told
        without its weights is checked first: where that fails, the loaded one stays. Then that is dropped.
        Where the GPU is lent, load in this thread, which must be the main one.

        Raises HostError while a search or another load uses the model, and for a second one on a lent GPU;
        with `wait`, where it could not be loaded.
        """
        how = self._options if options is None else options
        with self._state_lock:
            if self._lent is not None and self._status.phase != "empty":
                raise HostError(
                    "ZeroGPU lends its GPU to the backbone that this Space started with. To change it, set "
                    "CALIBRI_BACKBONE in the Space's settings and restart it."
                )
            if self._reservations:
                raise HostError(
                    f"The backbone cannot be changed while {self._reservations[0]} runs. Stop it first."
                )
            if self._status.phase == "loading":
                raise HostError(f"{self._status.backbone} is still loading. Wait until it is ready.")
            self._ready.clear()
            self._known[shown_name(name)] = name
            self._change(phase="loading", backbone=shown_name(name), detail="", started=time.monotonic())
        if self._lent is not None:
            self._load(name, how)
            return
        self._background.ensure(partial(self._load, name, how))
        if wait:
            self.wait_ready()
            if self.status.detail:
                raise HostError(self.status.detail)

    def _load(self, name: str, options: LoadOptions) -> None:
        if self._backbone is not None and not self._admit(name, options):
            return
        if self._lock.holder:
            self._set(detail="waiting for the current pictures")
        with self._lock.hold(Priority.INTERACTIVE, f"loading {shown_name(name)}"):
            self._set(detail="dropping the last one" if self._backbone is not None else "")
            self._drop()
            self._set(detail="reading its weights")
            try:
                self._open(name, options)
            except Exception as error:
                if self._background.closed:  # a load that the end of the program cut off is no news
                    return
                words = without_paths(_explain(error, shown_name(name)))
                self._set(phase="failed", detail=words, started=time.monotonic())
            finally:
                if self._backbone is None:
                    self._free()  # what a load that failed had already taken
                self._ready.set()

    def _admit(self, name: str, options: LoadOptions) -> bool:
        """Whether it may take the place of the loaded backbone, which stays where not."""
        assert self._backbone is not None
        self._set(detail="checking what can be told without its weights")
        try:
            self._checker(name, options)
        except Exception as error:
            words = without_paths(_explain(error, shown_name(name)))
            kept = self._backbone.spec.name
            detail = f"{shown_name(name)} was not loaded: {words.rstrip('.')}. {kept} stays"
            self._set(phase="ready", backbone=kept, detail=detail, started=time.monotonic())
            self._ready.set()
            return False
        return True

    def _open(self, name: str, options: LoadOptions) -> None:
        from calibri.sampling.renderer import Renderer  # torch

        backbone = self._loader(name, options)
        renderer = Renderer(backbone, batch_size=self._batch_size)
        self._renderer = renderer if self._lent is None else self._lent.attach(renderer)
        self._backbone, spec = backbone, backbone.spec
        device = str(backbone.pipeline.device) if self._lent is None else "ZeroGPU"
        facts = {"backbone": spec.name, "device": device, "detail": "", "mode": _name_mode(backbone)}
        self._options, self._last = options, (name, options)
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

    def close(self) -> None:
        """Begin no more loads. One under way is waited for, a few seconds at most: Python takes torch apart
        under the feet of a thread that still imports it."""
        self._background.stop()
        self._background.wait(END_PATIENCE)
