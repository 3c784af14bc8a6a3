"""Reads the checkpoints of the paper's own code: `checkpoints/step_N/cmaes_step_NNNN.json`.

Faithful to what that code does, not to what it meant (SITES.md); what differs is said in
`found["warnings"]`. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibri.backbones.layouts import Granularity, Layout
from calibri.backbones.sites import Site
from calibri.calibration.artifact import LARGEST_FILE, Calibration, Condition, Member
from calibri.errors import ArtifactError
from calibri.files import load_json, read_text

ROUNDINGS = ("bfloat16", "float16")


def read_official(
    source: str | Path, sites: Sequence[Site], *, backbone: str = "", round_to: str | None = None
) -> Calibration:
    """A checkpoint file as a calibration of the backbone with these sites.

    `round_to`: bfloat16 or float16 rounds the scales as that code does when it applies them to a model of
    that dtype. Raises ArtifactError where the file is none of its variants or belongs to another backbone.
    """
    path = Path(source)
    try:
        content = load_json(read_text(path, LARGEST_FILE, ArtifactError))
    except (ArtifactError, ValueError) as error:
        raise ArtifactError(f"{path}: {error}") from error
    try:
        return from_official(content, sites, backbone=backbone, round_to=round_to, title=path.stem)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def from_official(
    content: Any,
    sites: Sequence[Site],
    *,
    backbone: str = "",
    round_to: str | None = None,
    title: str = "",
) -> Calibration:
    """As `read_official`, from the parsed JSON."""
    if round_to is not None and round_to not in ROUNDINGS:
        raise ArtifactError(f"rounding {round_to!r}: expected {' or '.join(ROUNDINGS)}")
    shapes, solution = _parts(content)
    members = _whole(shapes, "n_models")
    warnings: list[str] = []
    granularity, sections, conditions = _variant(shapes, members, sites)
    layout = Layout.from_sites(sites, granularity)
    expected = members * sum(len(section) for section in sections) + members
    if len(solution) != expected:
        raise ArtifactError(f"expected {expected} numbers for {members} members, got {len(solution)}")
    values, at = [dict.fromkeys(layout.names, 1.0) for _ in range(members)], 0
    for section in sections:
        for member in values:
            for name in section:
                if name in member:
                    member[name] = solution[at]
                at += 1
    if "n_double" not in shapes and "main" not in shapes:  # Qwen
        for member in values:
            member.update({name: 1.0 for name in member if name.endswith(".mlp")})
        warnings.append(
            "The MLP scales do nothing in the code that found them (its hook expects a tuple): left out."
        )
    weights = solution[at:]
    if "negative" in conditions and 0 in weights:
        warnings.append("A member of weight 0 is skipped; the code that found it runs it unscaled, weight 1.")
    return Calibration(
        title=title,
        backbone=backbone,
        granularity=granularity,
        names=layout.names,
        members=tuple(
            Member(
                scales=tuple(_rounded(list(member.values()), round_to)), weight=weight, condition=condition
            )
            for member, weight, condition in zip(values, weights, conditions, strict=True)
        ),
        found={
            "by": "the paper's code",
            "step": content.get("step"),
            "sigma": content.get("sigma"),
            "train_mean": content.get("train_mean"),
            "train_best": content.get("train_best"),
            **({"rounded_to": round_to} if round_to else {}),
            **({"warnings": warnings} if warnings else {}),
        },
    )


def _parts(content: Any) -> tuple[dict[str, Any], list[float]]:
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), dict):
        raise ArtifactError("expected a checkpoint with `solution` and `shapes`")
    solution = content.get("solution")
    if not isinstance(solution, list) or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in solution
    ):
        raise ArtifactError("solution: expected a list of finite numbers")
    return content["shapes"], [float(v) for v in solution]


def _whole(shapes: dict[str, Any], key: str) -> int:
    value = shapes.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArtifactError(f"shapes: expected a whole number {key!r}, got {value!r}")
    return value


def _variant(
    shapes: dict[str, Any], members: int, sites: Sequence[Site]
) -> tuple[Granularity, list[list[str]], tuple[Condition, ...]]:
    """Granularity, the names of each section in the order of `solution` (members nest inside each), and the
    members' conditions."""
    if not 1 <= members <= 8:
        raise ArtifactError(f"shapes: expected 1 to 8 members, got {members}")
    blocks = list(dict.fromkeys(site.block for site in sites))
    positive: Condition = "positive"
    if "n_double" in shapes:
        return (*_flux(shapes, members, blocks), (positive,) * members)
    if members != 2:
        raise ArtifactError(f"shapes: expected the two members of guidance, got {members}")
    count = _whole(shapes, "n_blocks")
    if not all(block.startswith("block.") for block in blocks) or count != len(blocks):
        raise ArtifactError(f"it belongs to a backbone of {count} blocks, this one has {len(blocks)}")
    guidance: tuple[Condition, ...] = (positive, "negative")
    if "attn2" in shapes:
        names = {site.name for site in sites}
        dual = [f"{b}.img.attn2" for b in blocks if f"{b}.img.attn2" in names]
        if _whole(shapes, "n_attn2") != len(dual):
            raise ArtifactError(f"it has {shapes['n_attn2']} dual blocks, this backbone {len(dual)}")
        image = [f"{b}.img.{layer}" for b in blocks for layer in ("attn", "mlp")]
        text = [f"{b}.txt.{layer}" for b in blocks[:-1] for layer in ("attn", "mlp")]
        return "gate", [image, text, dual], guidance
    every = [f"{b}.{s}.{layer}" for b in blocks for layer in ("attn", "mlp") for s in ("img", "txt")]
    return "gate", [every], guidance


def _flux(shapes: dict[str, Any], members: int, blocks: list[str]) -> tuple[Granularity, list[list[str]]]:
    doubles = [b for b in blocks if b.startswith("double.")]
    singles = [b for b in blocks if b.startswith("single.")]
    for key, found in (("n_double", doubles), ("n_single", singles)):
        if _whole(shapes, key) != len(found):
            raise ArtifactError(f"{key}: it belongs to a backbone of {shapes[key]}, not {len(found)}")
    main = _whole(shapes, "doubles_main")
    if "doubles_ctx" in shapes:
        sections = [
            [f"{b}.{s}.{layer}" for b in doubles for layer in ("attn", "mlp")] for s in ("img", "txt")
        ]
        return "gate", [*sections, [f"{b}.fused" for b in singles]]
    if main == 2 * members * len(doubles):
        layers = [f"{b}.{layer}" for b in doubles for layer in ("attn", "mlp")]
        return "layer", [layers, [f"{b}.fused" for b in singles]]
    if main == members * len(doubles):
        return "block", [doubles, singles]
    raise ArtifactError(f"shapes: {main} doubles_main is no variant of {len(doubles)} double blocks")


def _rounded(values: list[float], kind: str | None) -> list[float]:
    if kind is None:
        return values
    array = np.array(values, dtype=np.float32)
    if kind == "float16":
        return array.astype(np.float16).astype(float).tolist()
    bits = array.view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)  # to nearest, ties to even
    return bits.astype(np.uint32).view(np.float32).astype(float).tolist()
