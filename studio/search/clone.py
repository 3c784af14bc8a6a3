"""The settings of a search that is there, as the form of a new one holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from calibri.calibration.artifact import Calibration, Member
from calibri.search.config import SearchConfig
from calibri.search.presets import PRESETS, choose_preset
from calibri.search.prompts import search_prompts
from calibri.search.space import phase_start, plain_start
from studio.core import Core
from studio.rendering.arms import DESK
from studio.scales.edits import open_calibration
from studio.search.form import BASE_START, HALVES, MEMBERS, USUAL
from studio.search.runs import Run


def clone_fields(core: Core, visitor: object, run: Run) -> dict[str, Any]:
    """What each field of the form holds, by name. Where the search began at scales of its own, these go
    onto the visitor's desk, and the form starts from there."""
    config, limits = run.config, run.limits
    space = run.space
    numbers = space.size if space is not None else None
    values = {**USUAL, **_plain_fields(config, numbers)}
    values |= {"images": limits.images or 0, "minutes": limits.minutes or 0}
    values["title"] = ""
    if space is not None and (config.start is not None or (config.roles and values["members"] == "start")):
        start = config.start or ((1.0,) * len(space.names),) * len(config.conditions)
        members = tuple(
            Member(scales=tuple(row), weight=weight, condition=condition, **role.placed)
            for row, weight, condition, role in zip(
                start, config.weights, config.conditions, config.every_role, strict=True
            )
        )
        found = Calibration(
            title=f"Start of {run.title}",
            backbone=core.backbone_name,
            granularity=config.granularity,
            names=space.names,
            members=members,
        )
        open_calibration(core, visitor, found)
        values["start"] = DESK
        values["members"] = "start"
    return values


def _plain_fields(config: SearchConfig, numbers: int | None) -> dict[str, Any]:
    preset = choose_preset(config.preset, numbers) if config.preset in PRESETS else {}
    usual = SearchConfig.model_fields
    members = next((key for key, (_, c) in MEMBERS.items() if c == config.conditions), "start")
    if config.roles:
        halves = phase_start(plain_start(), HALVES).roles
        members = "phases" if config.roles == halves else "start"

    def changed(name: str) -> Any:
        """The value where it is not the preset's, else the form's word for "as usual"."""
        value = getattr(config, name)
        return 0 if value is None or value == preset.get(name, usual[name].default) else value

    return {
        "granularity": config.granularity,
        "members": members,
        "start": BASE_START,
        "strength": config.weights[0] if members == "guided" else USUAL["strength"],
        "rewards": [term.text for term in config.rewards],
        "judges": list(config.judges),
        "front": config.front,
        "steps": config.steps,
        "size": f"{config.width}x{config.height}" if config.width else "",
        "preset": config.preset,
        "seed": config.seed,
        "objective": config.objective,
        "convergence": changed("convergence") or "",
        "stop_on_fall": config.stop_on_fall,
        "sigma0": changed("sigma0"),
        "popsize": changed("popsize"),
        "bucket": changed("bucket"),
        "bounds": ",".join(f"{bound:g}" for bound in config.bounds),
        "held_out_pairs": config.held_out_pairs,
        "prompts": _prompts(config),
    }


def _prompts(config: SearchConfig) -> str:
    """As somebody typed them, one a line; nothing where they are the backbone's own set."""
    own = search_prompts(config.backbone)
    if all(getattr(config, name) == tuple(value) for name, value in own.items()):
        return ""
    searched, validated, judged = config.prompts, config.validation_prompts, config.held_out_prompts
    if config.preset == "paper":
        measured = _merge(judged, validated, lambda i: i % 3 == 0)
        return "\n".join(_merge(searched, measured, lambda i: i % 10 in (3, 6, 9)))
    rest = _merge(searched, validated, lambda i: i % 8 == 3)
    return "\n".join(_merge(rest, judged, lambda i: i % 5 == 4))


def _merge(first: Sequence[str], second: Sequence[str], takes_second: Callable[[int], bool]) -> list[str]:
    """Both in one list, as `split_prompts` took them apart; what is left of one comes at the end."""
    one, two = list(first), list(second)
    made: list[str] = []
    while one and two:
        made.append((two if takes_second(len(made)) else one).pop(0))
    return [*made, *one, *two]
