"""Where the commands take their prompts from: a file, or the embedded world's own sets."""

from __future__ import annotations

from pathlib import Path

from calibri.errors import SearchError

POOL_PROMPTS = 512
VALIDATION_PROMPTS = 64


def read_prompts(path: Path) -> list[str]:
    """Prompts of a text file, one a line, without repetitions. Raises SearchError if there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SearchError(f"cannot read prompts from {path}: {error}") from error
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not prompts:
        raise SearchError(f"{path} holds no prompts")
    return prompts


def has_prompts(backbone: str) -> bool:
    """Whether this backbone has prompts of its own."""
    return str(backbone).rstrip("/").endswith("tabletop")


def search_prompts(backbone: str) -> dict[str, tuple[str, ...]]:
    """The embedded world's prompts to search, validate and judge on, disjoint, as the fields of SearchConfig.

    Raises SearchError for a backbone without prompts of its own.
    """
    search = _own(backbone, "search", POOL_PROMPTS + VALIDATION_PROMPTS)
    return {
        "prompts": tuple(search[:POOL_PROMPTS]),
        "validation_prompts": tuple(search[POOL_PROMPTS:]),
        "held_out_prompts": tuple(_own(backbone, "held-out", 256)),
    }


def split_prompts(prompts: list[str], judged: list[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Different prompts to search, validate and judge on, as `search_prompts` gives them.

    Every fifth prompt is held out, unless there are others to judge on (`judged`), and every eighth of the
    rest validates. Raises SearchError where there are too few.
    """
    given = len(prompts)
    if judged is None:
        judged = prompts[4::5]
        prompts = [prompt for i, prompt in enumerate(prompts) if i % 5 != 4]
    validation = prompts[3::8]
    search = [prompt for i, prompt in enumerate(prompts) if i % 8 != 3]
    if not validation or not judged:
        raise SearchError(f"prompts: expected at least 10, because some are held out, got {given}")
    return {
        "prompts": tuple(search),
        "validation_prompts": tuple(validation),
        "held_out_prompts": tuple(judged),
    }


def held_out_prompts(path: Path | None, backbone: str, count: int) -> list[str]:
    """Prompts to judge on: those of a file, or the embedded world's held-out ones."""
    return read_prompts(path) if path else _own(backbone, "held-out", count)


def sweep_prompts(path: Path | None, backbone: str, count: int) -> list[str]:
    """Prompts to measure a sweep on: those of a file, or the embedded world's search ones."""
    return read_prompts(path) if path else _own(backbone, "search", count)


def _own(backbone: str, which: str, count: int) -> list[str]:
    if not has_prompts(backbone):
        raise SearchError(f"give --prompts FILE with prompts that suit {backbone}, one a line")
    from calibri.tabletop.prompts import prompt_set

    return prompt_set(which, count, seed=0)
