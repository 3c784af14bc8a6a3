"""A quick import of Gradio, which is most of what the start of a studio takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def import_gradio() -> None:
    """Import Gradio without the stubs (.pyi) of its components.

    It parses its own source and writes such a file beside it for each of them, at every import: half of the
    time that its import takes, and in a folder that may be another's. Without the file of the class it leaves
    a stub out.
    """
    with _without_files_of("gradio."):
        import gradio  # noqa: F401


@contextmanager
def _without_files_of(package: str) -> Iterator[None]:
    known = inspect.getfile

    def getfile(object: Any) -> str:
        if isinstance(object, type) and object.__module__.startswith(package):
            raise OSError("stubs are not written here")
        return known(object)

    inspect.getfile = getfile
    try:
        yield
    finally:
        inspect.getfile = known
