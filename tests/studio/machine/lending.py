"""Stand-ins for `spaces.GPU`, with what that package does to a function: the duration is asked of the
arguments, and each call runs in a forked process to which arguments and results are pickled."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.queues import SimpleQueue
from typing import Any

FORK = multiprocessing.get_context("fork")


class Lender:
    """`durations`: what each call asked for. `pids`: the processes that painted. `left`: calls that were left
    before their end."""

    def __init__(self, *, forks: bool = False) -> None:
        self.durations: list[float] = []
        self.pids: set[int] = set()
        self.threads: set[str] = set()
        self.left = 0
        self._forks = forks

    def __call__(self, *, duration: Callable[..., float]) -> Callable[[Callable], Callable]:
        def decorate(task: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
                self.durations.append(duration(*args, **kwargs))
                self.threads.add(threading.current_thread().name)
                try:
                    if self._forks:
                        yield from self._forked(task, args, kwargs)
                    else:
                        self.pids.add(os.getpid())
                        yield from task(*args, **kwargs)
                except GeneratorExit:
                    self.left += 1
                    raise

            return call

        return decorate

    def _forked(self, task: Callable, args: tuple, kwargs: dict) -> Iterator[Any]:
        sent, told, stop = SimpleQueue(ctx=FORK), SimpleQueue(ctx=FORK), FORK.Event()
        process = FORK.Process(target=_serve, args=(task, sent, told, stop), daemon=True)
        process.start()
        self.pids.add(process.pid)
        sent.put((args, kwargs))
        try:
            while True:
                kind, value = told.get()
                if kind == "end":
                    return
                if kind == "failed":
                    raise RuntimeError(value)
                try:
                    yield value
                except GeneratorExit:
                    stop.set()
                    raise
        finally:
            process.join(60)


def _serve(task: Callable, sent: SimpleQueue, told: SimpleQueue, stop: Any) -> None:
    args, kwargs = sent.get()

    def work() -> None:
        events = task(*args, **kwargs)
        try:
            for event in events:
                if stop.is_set():
                    events.close()
                    break
                told.put(("value", event))
            told.put(("end", None))
        except BaseException as error:
            told.put(("failed", f"{type(error).__name__}: {error}"))

    thread = threading.Thread(
        target=work
    )  # as spaces does; OpenMP of the parent's thread does not outlive a fork
    thread.start()
    thread.join()
