"""What a terminal is told, whatever characters it can show."""

from __future__ import annotations

import codecs
import logging
import os
import sys

_PLAIN = {
    "…": "...",
    "×": "x",
    "–": "-",
    "—": "-",
    "−": "-",
    "“": '"',
    "”": '"',
    "’": "'",
    "·": ".",
    "±": "+-",
}
_HANDLER = "calibri-plain"


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: a plain likeness of each character that the encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in lost), error.end


def quiet_libraries(*, bars: bool | None = None) -> None:
    """Keeps advice and progress bars of transformers, diffusers and the hub out of what people read, unless
    the environment says otherwise. `bars`: of downloads; None for those of a terminal alone. The libraries
    read it when they are imported, so programs call it before."""
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    if not (sys.stderr.isatty() if bars is None else bars):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # torchao tells at its import which of its kernels this machine cannot run, and registers types anew.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def print_in_any_encoding() -> None:
    """A terminal or a pipe that knows only ASCII or Latin-1 gets plain likenesses instead of an error."""
    codecs.register_error(_HANDLER, _plainly)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if (
            reconfigure is not None
            and (getattr(stream, "encoding", "") or "").lower().replace("-", "") != "utf8"
        ):
            reconfigure(errors=_HANDLER)
