"""ZeroGPU: a GPU that a Space borrows for one call at a time, through the package `spaces` of the hub.

Each call runs in a process of its own, forked from this one, in which the GPU is real. Arguments and what
the call yields cross by that package's pickling, so only requests, numbers and raw pixels do. The model is
placed once, in the main thread and before the server starts: the package emulates CUDA there, and hands the
placed weights to each process. Documentation: https://huggingface.co/docs/hub/spaces-zerogpu
"""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from calibri import errors
from calibri.errors import CalibriError, RenderCancelled, RenderError
from studio.machine.queue import HostError

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.sampling.renderer import Renderer
    from calibri.sampling.request import Job, Rendered, RenderRequest

log = logging.getLogger(__name__)

LEAST, MOST = 10, 120  # seconds that one call asks for; shorter ones wait less
SHARE = 60.0  # estimated seconds of work that are put into one call
START = 5.0  # seconds of a new process until it paints
MOVED = 2e9  # bytes of weights a second that reach the GPU, as a careful guess
SPEED = (
    1e14  # operations a second of half a ZeroGPU card, as a careful guess; measured from the first call on
)
TOKEN = 256  # pixels: 16 × 16, what one token of the large families covers
MARGIN = 1.5
KNOWN = 8  # calls that the speed is measured over

Lend = Callable[..., Any]  # spaces.GPU


def find_lend() -> Lend | None:
    """`spaces.GPU`; None where the package is missing. On ZeroGPU, call it before torch is imported."""
    try:
        import spaces
    except ImportError:
        log.error("this Space has ZeroGPU, but not the package spaces: pictures are made on its processor")
        return None
    return spaces.GPU


class ZeroGpu:
    """The one function that ZeroGPU lends its GPU to, and how long each call of it asks for.

    `lend`: spaces.GPU. On machines without ZeroGPU it gives the function back as it is.
    """

    def __init__(self, lend: Lend) -> None:
        self._renderer: Renderer | None = None
        self._measured: deque[float] = deque(maxlen=KNOWN)  # seconds a pixel and evaluation
        self._guess = self._before = 0.0
        self._call = lend(duration=ask_for)(self._paint)

    def attach(self, renderer: Renderer) -> LentRenderer:
        """Paint with this renderer from now on. The processes that are forked later find it here."""
        parameters = list(renderer.backbone.transformer.parameters())
        parts = renderer.backbone.pipeline.components.values()
        weights = [each for part in parts if hasattr(part, "parameters") for each in part.parameters()]
        self._guess = 2 * sum(each.numel() for each in parameters) / TOKEN / SPEED
        self._before = START + sum(each.numel() * each.element_size() for each in weights) / MOVED
        self._renderer = renderer
        return LentRenderer(renderer, self)

    # in this process

    def estimate(self, work: float) -> float:
        """Seconds that a call takes. `work`: evaluations × pixels, summed over its pictures."""
        return self._before + MARGIN * self.seconds(work)

    def seconds(self, work: float) -> float:
        """Seconds of painting, at the slowest of the last calls, or as guessed before the first one."""
        return work * (max(self._measured) if self._measured else self._guess)

    def call(
        self, jobs: Sequence[Job], on_step: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> list[Rendered]:
        """One call: the pictures of these jobs, in their order. Raises what Renderer.render raises, and
        HostError where no GPU was lent."""
        from gradio import Error
        from PIL import Image

        from calibri.sampling.request import Rendered

        work = sum(work_of(job) for job in jobs)
        seconds = min(MOST, max(LEAST, math.ceil(self.estimate(work))))
        events = self._call([job.request for job in jobs], seconds)
        made: list[Rendered] = []
        try:
            for kind, *content in events:
                if kind == "step":
                    on_step(content[0])
                elif kind == "error":
                    raise _error(*content)
                else:
                    made = [
                        Rendered(Image.frombytes("RGB", size, pixels), job.request, nfe, spent)
                        for job, (size, pixels, nfe, spent) in zip(jobs, content[0], strict=True)
                    ]
                if not made and cancelled():
                    raise RenderCancelled("the render was cancelled")
        except Error as error:  # no quota, no GPU in time, a task that took longer than it said
            words = str(getattr(error, "message", error))
            raise HostError(f"{getattr(error, 'title', 'ZeroGPU')}: {words}") from error
        finally:
            events.close()
        self._measured.append(sum(each.seconds for each in made) / work)
        return made

    # in the process that has the GPU

    def _paint(self, requests: list[RenderRequest], seconds: int) -> Iterator[tuple[Any, ...]]:
        """Yields ("step", done), then ("pictures", [(size, RGB bytes, nfe, seconds)]) or ("error", class,
        words)."""
        told: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        left = threading.Event()
        # Steps are told by a callback: it runs beside this generator, in a thread that the fork did not cut.
        thread = threading.Thread(target=self._work, args=(requests, told, left), daemon=True)
        thread.start()
        try:
            while True:
                event = told.get()
                if event[0] == "raised":
                    raise event[1]
                yield event
                if event[0] != "step":
                    return
        finally:
            left.set()
            thread.join()

    def _work(self, requests: list[RenderRequest], told: queue.SimpleQueue, left: threading.Event) -> None:
        assert self._renderer is not None  # attached before the server starts
        try:
            made = self._renderer.render(
                requests, on_step=lambda done, total: told.put(("step", done)), cancel=left.is_set
            )
            pictures = [(each.image.size, each.image.tobytes(), each.nfe, each.seconds) for each in made]
            told.put(("pictures", pictures))
        except CalibriError as error:
            told.put(("error", type(error).__name__, str(error)))
        except BaseException as error:
            told.put(("raised", error))


def ask_for(requests: list[RenderRequest], seconds: int) -> int:
    """The duration of a call, from its arguments as `spaces` gives them: what its work was estimated at."""
    return seconds


def work_of(job: Job) -> int:
    """Evaluations (steps × members) × pixels."""
    return job.nfe * job.height * job.width


def _error(kind: str, words: str) -> CalibriError:
    found = getattr(errors, kind, RenderError)
    return found(words) if issubclass(found, CalibriError) else RenderError(words)


class LentRenderer:
    """Renders as Renderer does, wherever ZeroGPU lends a GPU.

    Calls of several threads run side by side, each on a GPU of its own, so nobody's turn is taken: whoever
    waits, waits in the queue of ZeroGPU, which knows the visitor of the event that the thread handles.
    """

    def __init__(self, renderer: Renderer, gpu: ZeroGpu) -> None:
        self.backbone: Backbone = renderer.backbone
        self.batch_size = renderer.batch_size
        self._gpu = gpu

    def render(
        self,
        requests: Sequence[RenderRequest],
        *,
        on_step: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
        turn: Callable[[], AbstractContextManager] = nullcontext,
    ) -> list[Rendered]:
        """As Renderer.render, in as many calls as the work needs. `turn` is not taken."""
        from calibri.sampling.request import check_request

        jobs = [check_request(request, place, self.backbone) for place, request in enumerate(requests)]
        made: list[Rendered] = []
        parts = self._split(jobs)
        steps = [self._count_steps(part) for part in parts]
        for number, part in enumerate(parts):
            if cancel is not None and cancel():
                raise RenderCancelled("the render was cancelled")
            before, own = sum(steps[:number]), steps[number]

            def tell(done: int, before: int = before, own: int = own) -> None:
                if on_step is not None:
                    on_step(before + min(done, own), sum(steps))

            made += self._gpu.call(part, tell, cancel or (lambda: False))
        return made

    def _split(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Jobs in their order, as many in one call as it should hold; at least one."""
        parts: list[list[Job]] = []
        filled = 0.0
        for job in jobs:
            seconds = self._gpu.seconds(work_of(job))
            if not parts or filled + seconds > SHARE:
                parts.append([])
                filled = 0.0
            parts[-1].append(job)
            filled += seconds
        return parts

    def _count_steps(self, part: Sequence[Job]) -> int:
        """Sampling steps over the batches of one call, as Renderer counts them."""
        kinds = [(job.request.steps, job.height, job.width) for job in part]
        return sum(-(-kinds.count(kind) // self.batch_size) * kind[0] for kind in set(kinds))
