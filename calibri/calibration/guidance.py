"""Guidance as members of an ensemble: what guides is one more member, whose weight the first one pays for.

With the prediction v of a calibration, its members are, for a strength s,

    cfg             v + (g − 1) · (v − v(negative prompt))     Ho & Salimans 2022, with g where others write w
    skip-layer      v + s · (v − v(blocks left out))           Stable Diffusion 3.5's skip-layer guidance
    skip-attention  v + s · (v − v(attention of blocks left out))   after perturbed attention, Ahn et al. 2024
    auto            v + (g − 1) · (v − v(weaker scales))       Karras et al. 2024, with a worse model

In writing: `cfg:4.5`, `skip-layer:7,8,9:2.8`, `skip-attention:double.2:3@0-0.5`, `auto:0.9:2`, joined by `+`.
Behind `@` stand start and stop, as shares of the trajectory. No torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from calibri.backbones.layouts import name_scale
from calibri.backbones.lora_sites import is_lora_scale
from calibri.backbones.sites import Site
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.phases import find_payer
from calibri.calibration.scale_names import group_of, layer_of
from calibri.errors import ArtifactError
from calibri.words import count

Preset = Literal["cfg", "skip-layer", "skip-attention", "auto"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
WORDS: dict[Preset, str] = {
    "cfg": "Classifier-free guidance",
    "skip-layer": "Skip-layer guidance",
    "skip-attention": "Skip-attention guidance",
    "auto": "Auto-guidance",
}
USUAL_STRENGTH: dict[Preset, float] = {"cfg": 4.5, "skip-layer": 2.8, "skip-attention": 3.0, "auto": 2.0}
#: Of skip-layer guidance: what StableDiffusion3Pipeline does unless it is told otherwise (diffusers 0.42).
USUAL_PHASE: dict[Preset, tuple[float, float]] = {"skip-layer": (0.01, 0.2)}
STRONGEST = 100.0

OpenWeak = Callable[[str], Calibration]


@dataclass(frozen=True)
class Guide:
    """One guidance. `of`: blocks to skip, or what is weaker: a factor of all scales, `base`, or a file."""

    preset: Preset
    of: str
    strength: float
    start: float = 0.0
    stop: float = 1.0

    def __str__(self) -> str:
        parts = [self.preset, *filter(None, [self.of]), f"{self.strength:g}"]
        usual = USUAL_PHASE.get(self.preset, (0.0, 1.0))
        phase = "" if (self.start, self.stop) == usual else f"@{self.start:g}-{self.stop:g}"
        return ":".join(parts) + phase


def split_guides(text: str) -> tuple[str, tuple[Guide, ...]]:
    """What is guided, empty for the base, and how: `best.json+skip-layer:7,8,9:2.8`. Raises ArtifactError."""
    found = re.search(rf"(?:^|\+)(?=(?:{'|'.join(PRESETS)}):)", text)
    if found is None:
        return text, ()
    return text[: found.start()], parse_guides(text[found.end() :])


def parse_guides(text: str) -> tuple[Guide, ...]:
    """Several guidances, joined by `+`. Raises ArtifactError that shows how one is written."""
    return tuple(_parse(part.strip()) for part in re.split(r"\+(?=[a-z-]+:)", text))


def _parse(text: str) -> Guide:
    asked = "cfg:4.5, skip-layer:7,8,9:2.8@0.01-0.2, skip-attention:7,8,9:3 or auto:0.9:2"
    found = re.fullmatch(r"([a-z-]+):(.+?)(?:@([\d.]+)-([\d.]+))?", text)
    preset = next((name for name in PRESETS if found and name == found[1]), None)
    if found is None or preset is None:
        raise ArtifactError(f"guidance: expected such as {asked}, got {text[:80]!r}")
    rest, start, stop = found[2], *USUAL_PHASE.get(preset, (0.0, 1.0))
    of, separator, strength = rest.rpartition(":")
    if preset != "cfg" and not separator:
        of, strength = rest, f"{USUAL_STRENGTH[preset]:g}"
    try:
        number = float(strength)
        if found[3] is not None:
            start, stop = float(found[3]), float(found[4])
    except ValueError:
        raise ArtifactError(f"guidance: expected such as {asked}, got {text[:80]!r}") from None
    if (preset == "cfg") == bool(of):
        raise ArtifactError(f"guidance: expected such as {asked}, got {text[:80]!r}")
    return Guide(preset, of, number, start, stop)


def add_guides(
    calibration: Calibration,
    guides: Sequence[Guide],
    every: Sequence[Site] = (),
    open_weak: OpenWeak | None = None,
) -> Calibration:
    """A calibration with further members that guide it. `every`: as in `skip_layers`. `open_weak`: opens
    the calibration that auto-guidance names. Raises ArtifactError for what does not fit."""
    for guide in guides:
        phase = {"start": guide.start, "stop": guide.stop}
        if guide.preset == "cfg":
            calibration = guide_by_negative(calibration, guide.strength, **phase)
        elif guide.preset == "auto":
            weak = _find_weak(calibration, guide.of, open_weak)
            calibration = guide_by_weaker(calibration, weak, guide.strength, **phase)
        else:
            skip = skip_layers if guide.preset == "skip-layer" else skip_attention
            calibration = skip(calibration, guide.of, guide.strength, every=every, **phase)
    return calibration


def guide(
    target: Any,
    guides: str | Sequence[Guide],
    calibration: Calibration | None = None,
    *,
    guidance: float | None = None,
    backbone: str = "",
    open_weak: OpenWeak | None = None,
) -> Calibration:
    """An ensemble that guides a calibration of this target, or its base where none is given.

    `target`: a pipeline, a Backbone or a transformer. `guidance`: classifier-free guidance to begin with,
    where `guides` hold none. `open_weak`: opens what auto-guidance names; None reads a file. Raises
    ArtifactError for guides, blocks or weaker calibrations that do not fit this target, LayoutError for a
    calibration of another one, BackboneError for an unknown transformer.
    """
    from calibri.backbones.layouts import Layout
    from calibri.backbones.sites import every_site, sites_of, unwrapped
    from calibri.calibration.reading import read_calibration
    from calibri.calibration.target import fit_calibration, transformer_of

    wanted = list(parse_guides(guides) if isinstance(guides, str) else guides)
    inner = unwrapped(transformer_of(target))
    if calibration is None:
        sites = getattr(target, "sites", None) or sites_of(inner)
        calibration = Calibration.base(Layout.from_sites(sites, "layer"), backbone)
    if guidance is not None and guidance != 1 and not any(each.preset == "cfg" for each in wanted):
        wanted.insert(0, Guide("cfg", "", float(guidance)))
    itself = getattr(getattr(target, "adapter", None), "guides_itself", False)
    if itself and any(each.preset == "cfg" for each in wanted):
        raise ArtifactError(
            f"{target.spec.name} guides with a transformer of its own: give guidance, not the preset cfg"
        )
    fitted, layout = fit_calibration(calibration, inner)
    every = every_site(type(inner).__name__, getattr(inner, "config", {}))

    def open_fitting(name: str) -> Calibration:
        if open_weak is not None:
            return open_weak(name).on_layout(layout)
        return read_calibration(name, layout.sites, backbone=fitted.backbone).on_layout(layout)

    return add_guides(fitted, wanted, every, open_fitting)


def guide_by_negative(
    calibration: Calibration, strength: float, start: float = 0.0, stop: float = 1.0
) -> Calibration:
    """Classifier-free guidance of this strength: a member that sees the negative prompt. Raises ArtifactError
    for a calibration that has one."""
    _check(strength, start, stop)
    if any(member.condition == "negative" for member in calibration.members):
        raise ArtifactError("expected members that see the prompt alone: this calibration is guided already")
    first = _first(calibration)
    guiding = Member(scales=first.scales, weight=(1 - strength) * first.weight, condition="negative")
    if (start, stop) != (0, 1):
        return _joined(calibration, _balance(guiding, start, stop), f"cfg:{strength:g}")
    # At every step: the weights themselves say so, as those of every other guided ensemble do.
    at = calibration.members.index(first)
    paid = first.model_copy(update={"weight": strength * first.weight})
    members = (*calibration.members[:at], paid, *calibration.members[at + 1 :])
    return _joined(calibration.changed(members=members), guiding, f"cfg:{strength:g}")


def skip_layers(
    calibration: Calibration,
    blocks: str | Sequence[int | str],
    strength: float = 2.8,
    start: float = 0.01,
    stop: float = 0.2,
    *,
    every: Sequence[Site] = (),
) -> Calibration:
    """Skip-layer guidance: a member without these blocks, that guides between two shares of the trajectory.

    `blocks`: `7,8,9`, `7-9`, or their names (`double.3`), where a backbone has several kinds. `every`: all
    sites of the backbone: a block goes on acting with its scales at 0 where it has a branch without one.
    Strength and shares: those of diffusers' StableDiffusion3Pipeline. Raises ArtifactError.
    """
    _check(strength, start, stop)
    names = find_blocks(calibration.names, blocks)
    skipped = {name for name in calibration.names if group_of(name) in names}
    skipped |= _find_beside(calibration, names, every)
    return _without(calibration, skipped, strength, start, stop, f"skip-layer:{','.join(names)}:{strength:g}")


def skip_attention(
    calibration: Calibration,
    blocks: str | Sequence[int | str],
    strength: float = 3.0,
    start: float = 0.0,
    stop: float = 1.0,
    *,
    every: Sequence[Site] = (),
) -> Calibration:
    """As `skip_layers`, of the attention of these blocks alone. Perturbed attention replaces the map by the
    identity; this leaves its branch out, which needs no other attention kernel. Raises ArtifactError, also at
    block granularity, where attention has no scale of its own."""
    _check(strength, start, stop)
    names = find_blocks(calibration.names, blocks)
    inside = [name for name in calibration.names if group_of(name) in names]
    skipped = {name for name in inside if layer_of(name).startswith("attn")}
    without = next((b for b in names if not any(group_of(name) == b for name in skipped)), None)
    if without is not None:
        raise ArtifactError(
            f"{without} has no scale of its own for attention at {calibration.granularity} granularity: "
            "expected blocks with one, or skip-layer"
        )
    words = f"skip-attention:{','.join(names)}:{strength:g}"
    return _without(calibration, skipped, strength, start, stop, words)


def guide_by_weaker(
    calibration: Calibration, weak: Calibration, strength: float, start: float = 0.0, stop: float = 1.0
) -> Calibration:
    """Auto-guidance: a member with the scales of a worse calibration, which is guided away from.

    `weak`: at the same granularity, of the same backbone; its first positive member counts. Raises
    ArtifactError where it does not fit, or has the same scales."""
    _check(strength, start, stop)
    if set(weak.names) != set(calibration.names):
        raise ArtifactError(
            f"auto-guidance: expected a weaker calibration with the scales of this one "
            f"({len(calibration.names)} at {calibration.granularity} granularity), got {len(weak.names)} at "
            f"{weak.granularity}"
        )
    first, other = _first(calibration), _first(weak)
    scales = tuple(other.scales[weak.names.index(name)] for name in calibration.names)
    if scales == first.scales:
        raise ArtifactError("auto-guidance: expected weaker scales, got the same: nothing would be guided")
    guiding = Member(scales=scales, weight=1 - strength)
    return _joined(calibration, _balance(guiding, start, stop), f"auto:{strength:g}")


def find_blocks(names: Sequence[str], asked: str | Sequence[int | str]) -> tuple[str, ...]:
    """The blocks that are asked for, in order of depth. Raises ArtifactError that names those there are."""
    there = list(dict.fromkeys(group_of(name) for name in names if not is_lora_scale(name)))
    kinds = list(dict.fromkeys(block.partition(".")[0] for block in there))
    wanted: dict[str, None] = {}
    for part in asked.split(",") if isinstance(asked, str) else map(str, asked):
        for name in _spell(part.strip(), kinds):
            if name not in there:
                ends = [[block for block in there if block.partition(".")[0] == kind] for kind in kinds]
                known = ", ".join(f"{each[0]} to {each[-1]}" for each in ends)
                raise ArtifactError(f"blocks: expected some of {known}, got {part.strip() or 'nothing'!r}")
            wanted[name] = None
    if len(wanted) == len(there):
        raise ArtifactError(f"blocks: expected some of {count(len(there), 'block')}, got all of them")
    return tuple(block for block in there if block in wanted)


def _spell(part: str, kinds: Sequence[str]) -> list[str]:
    """`7` or `7-9` → names of blocks, where there is one kind; `double.3-5`; else as it is."""
    found = re.fullmatch(r"(?:([a-z_]+)\.)?(\d{1,4})(?:-(\d{1,4}))?", part)
    if found is None:
        return [part]
    kind = found[1] or (kinds[0] if len(kinds) == 1 else "")
    if not kind:
        return [part]
    low, high = int(found[2]), int(found[3] or found[2])
    return [f"{kind}.{number}" for number in range(low, high + 1)] or [part]


def _find_weak(calibration: Calibration, of: str, open_weak: OpenWeak | None) -> Calibration:
    first = _first(calibration)
    if of == "base":
        scales: tuple[float, ...] = (1.0,) * len(first.scales)
    elif re.fullmatch(r"\d*\.?\d+", of):
        scales = tuple(float(of) * scale for scale in first.scales)
    elif open_weak is None:
        raise ArtifactError(f"auto-guidance: expected base or a factor such as 0.9, got {of[:80]!r}")
    else:
        return open_weak(of)
    return calibration.changed(members=(Member(scales=scales),))


def _without(
    calibration: Calibration, skipped: set[str], strength: float, start: float, stop: float, words: str
) -> Calibration:
    first = _first(calibration)
    pairs = zip(calibration.names, first.scales, strict=True)
    scales = tuple(0.0 if name in skipped else scale for name, scale in pairs)
    return _joined(calibration, _balance(Member(scales=scales, weight=-strength), start, stop), words)


def _balance(member: Member, start: float, stop: float) -> Member:
    return member.model_copy(update={"start": float(start), "stop": float(stop), "balanced": True})


def _first(calibration: Calibration) -> Member:
    """The member that is guided. Raises ArtifactError where all are negative."""
    at = find_payer(calibration.members)
    if at < 0:
        raise ArtifactError("expected a calibration with a positive member, got negative ones alone")
    return calibration.members[at]


def _joined(calibration: Calibration, member: Member, words: str) -> Calibration:
    """A checked calibration with one more member, which says how it is guided."""
    guided = [*calibration.found.get("guidance", []), words]
    title = f"{calibration.title} + {words.partition(':')[0]}" if calibration.title else ""
    return calibration.changed(
        title=title[:300],
        members=(*calibration.members, member),
        found={**calibration.found, "guidance": guided},
    )


def _check(strength: float, start: float, stop: float) -> None:
    if not math.isfinite(strength) or not 0 <= strength <= STRONGEST:
        raise ArtifactError(f"guidance: expected a strength from 0 to {STRONGEST:g}, got {strength:g}")
    if not 0 <= start < stop <= 1:
        raise ArtifactError(
            f"guidance: expected shares of the trajectory from 0 to 1, start before stop, got {start:g} and "
            f"{stop:g}"
        )


def _find_beside(calibration: Calibration, blocks: Sequence[str], every: Sequence[Site]) -> set[str]:
    """Scales of further branches in the same modules, such as cross-attention. Raises ArtifactError where
    they have none."""
    modules = {_module_of(site) for site in every if site.block in blocks}
    beside = [site for site in every if _module_of(site) in modules]
    scales = {site: name_scale(site, calibration.granularity) for site in beside}
    for site, name in scales.items():
        if name not in calibration.names:
            raise ArtifactError(
                f"{blocks[0]} cannot be left out: its branch {site.name} has a scale only where the backbone "
                f"is named with +{site.extra}"
            )
    return set(scales.values())


def _module_of(site: Site) -> str:
    """The block's own module: `transformer_blocks.3`."""
    found = re.match(r".*?\.\d+(?=\.|$)", site.module)
    return found[0] if found else site.module
