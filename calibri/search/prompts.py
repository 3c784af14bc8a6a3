"""Where searches, sweeps and comparisons take prompts from: those given, or a set that suits the backbone."""

from __future__ import annotations

from calibri.errors import SearchError
from calibri.prompts import name_set, prompt_set, usual_prompts


def search_prompts(backbone: str) -> dict[str, tuple[str, ...]]:
    """Prompts to search, validate and judge on, disjoint, as the fields of SearchConfig.

    They are the splits of the set that suits the backbone.
    """
    own = name_set(backbone)
    return {
        "prompts": prompt_set(own, "search"),
        "validation_prompts": prompt_set(own, "validation"),
        "held_out_prompts": prompt_set(own, "held-out"),
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


def split_as_paper(prompts: list[str], judged: list[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Different prompts as the paper divides T2I-CompBench++: a list to search on, and one to measure on.

    Without `judged` seven of ten are searched on, as 700 of the 1,000 prompts of each category there; with
    it, all. Of what is measured on, every third validates on the way and the others judge at the end, which
    the paper does on the same prompts. Raises SearchError where there are too few.
    """
    measured = judged if judged is not None else [p for i, p in enumerate(prompts) if i % 10 in (3, 6, 9)]
    search = prompts if judged is not None else [p for i, p in enumerate(prompts) if i % 10 not in (3, 6, 9)]
    validation, held_out = measured[::3], [p for i, p in enumerate(measured) if i % 3]
    if not (search and validation and held_out):
        raise SearchError(
            "prompts: expected at least 10, or 2 to judge on beside those to search on, "
            f"got {len(prompts)} and {len(judged or ())}"
        )
    return {
        "prompts": tuple(search),
        "validation_prompts": tuple(validation),
        "held_out_prompts": tuple(held_out),
    }


def held_out_prompts(typed: list[str] | None, backbone: str, count: int) -> list[str]:
    """Prompts to judge on: those given, or held-out ones of the set that suits the backbone."""
    return typed or usual_prompts(backbone, "held-out", count)


def sweep_prompts(typed: list[str] | None, backbone: str, count: int) -> list[str]:
    """Prompts to measure a sweep on: those given, or search ones of the set that suits the backbone."""
    return typed or usual_prompts(backbone, "search", count)
