"""Where ComfyUI's models have the gates that a calibration scales: the one table of names.

A gate is a part of what a modulation puts out, so every site is "multiply chunk `index` of `count` of the
output of this module". Read from ComfyUI 0.3.64: comfy/ldm/flux/layers.py, comfy/ldm/modules/
diffusionmodules/mmdit.py, comfy/ldm/qwen_image/model.py. The names on the left are Calibri's, in its order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

Granularity = Literal["block", "layer", "gate"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)  # from coarse to fine


class CalibrationError(ValueError):
    """Something that whoever uses the node can mend: what was expected, and what came."""


@dataclass(frozen=True)
class Row:
    """A gate of every block of one kind; `{}` stands for the block's number.

    `where`, `unless`: only in blocks that have this module, or have it not. `last`: whether the last block
    has it too.
    """

    name: str
    module: str
    count: int
    index: int
    where: str = ""
    unless: str = ""
    last: bool = True


@dataclass(frozen=True)
class Family:
    """`model`: the class of `diffusion_model`. `rows`: for each kind of block its list and its gates."""

    title: str
    model: str
    rows: tuple[tuple[str, tuple[Row, ...]], ...]


@dataclass(frozen=True)
class Site:
    """One gate of one model: Calibri's name, the path in `diffusion_model`, and the chunk."""

    name: str
    module: str
    count: int
    index: int

    def scale_name(self, granularity: Granularity) -> str:
        """The scale that drives it: `double.3`, `double.3.attn` or `double.3.img.attn`."""
        parts = self.name.split(".")
        if granularity == "block":
            return ".".join(parts[:2])
        return self.name if granularity == "gate" else ".".join([*parts[:2], parts[-1]])


_DUAL = "joint_blocks.{}.x_block.attn2"  # the second image attention of SD3.5-medium

FAMILIES = (
    Family(
        "FLUX.1",
        "Flux",
        (
            (
                "double_blocks",
                (
                    Row("double.{}.img.attn", "double_blocks.{}.img_mod.lin", 6, 2),
                    Row("double.{}.img.mlp", "double_blocks.{}.img_mod.lin", 6, 5),
                    Row("double.{}.txt.attn", "double_blocks.{}.txt_mod.lin", 6, 2),
                    Row("double.{}.txt.mlp", "double_blocks.{}.txt_mod.lin", 6, 5),
                ),
            ),
            ("single_blocks", (Row("single.{}.fused", "single_blocks.{}.modulation.lin", 3, 2),)),
        ),
    ),
    Family(
        "Stable Diffusion 3",
        "OpenAISignatureMMDITWrapper",
        (
            (
                "joint_blocks",
                (
                    Row("block.{}.img.attn", "joint_blocks.{}.x_block.adaLN_modulation", 6, 2, unless=_DUAL),
                    Row("block.{}.img.mlp", "joint_blocks.{}.x_block.adaLN_modulation", 6, 5, unless=_DUAL),
                    Row("block.{}.img.attn", "joint_blocks.{}.x_block.adaLN_modulation", 9, 2, where=_DUAL),
                    Row("block.{}.img.mlp", "joint_blocks.{}.x_block.adaLN_modulation", 9, 5, where=_DUAL),
                    Row("block.{}.img.attn2", "joint_blocks.{}.x_block.adaLN_modulation", 9, 8, where=_DUAL),
                    Row(
                        "block.{}.txt.attn",
                        "joint_blocks.{}.context_block.adaLN_modulation",
                        6,
                        2,
                        last=False,
                    ),
                    Row(
                        "block.{}.txt.mlp", "joint_blocks.{}.context_block.adaLN_modulation", 6, 5, last=False
                    ),
                ),
            ),
        ),
    ),
    Family(
        "Qwen-Image",
        "QwenImageTransformer2DModel",
        (
            (
                "transformer_blocks",
                (
                    Row("block.{}.img.attn", "transformer_blocks.{}.img_mod", 6, 2),
                    Row("block.{}.img.mlp", "transformer_blocks.{}.img_mod", 6, 5),
                    Row("block.{}.txt.attn", "transformer_blocks.{}.txt_mod", 6, 2, last=False),
                    Row("block.{}.txt.mlp", "transformer_blocks.{}.txt_mod", 6, 5, last=False),
                ),
            ),
        ),
    ),
)


def find_family(model: str) -> Family:
    """The family of a class of `diffusion_model`. Raises CalibrationError that names the known ones."""
    for family in FAMILIES:
        if family.model == model:
            return family
    known = ", ".join(family.title for family in FAMILIES)
    raise CalibrationError(f"expected a model of {known}, got one of the class {model}")


def list_sites(model: str, modules: Iterable[str]) -> tuple[Site, ...]:
    """The sites of a model, from the class of its `diffusion_model` and the paths of its modules.

    Raises CalibrationError for a class that is not in the table, and for a model that is built otherwise:
    FLUX.2 has the class of FLUX.1, but one modulation for all blocks.
    """
    family, paths = find_family(model), set(modules)
    found = tuple(site for blocks, rows in family.rows for site in _of_blocks(blocks, rows, paths))
    missing = next((site for site in found if site.module not in paths), None)
    if not found or missing:
        what = f"no module {missing.module}" if missing else "no blocks"
        raise CalibrationError(f"expected a model that is built like {family.title}, got one with {what}")
    return found


def _of_blocks(blocks: str, rows: tuple[Row, ...], paths: set[str]) -> Iterator[Site]:
    count = 0
    while f"{blocks}.{count}" in paths:
        count += 1
    for number in range(count):
        for row in rows:
            left_out = (
                (row.where and row.where.format(number) not in paths)
                or (row.unless and row.unless.format(number) in paths)
                or (number == count - 1 and not row.last)
            )
            if not left_out:
                yield Site(row.name.format(number), row.module.format(number), row.count, row.index)
