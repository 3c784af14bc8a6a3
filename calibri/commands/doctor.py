"""`calibri doctor`: what this machine has, what a backbone needs in each mode, which mode is suggested."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from calibri.backbones.advice import Advice, advise, guess_seconds
from calibri.backbones.catalog import CATALOG, resolve
from calibri.backbones.machine import NEEDED, OPTIONAL, Machine, find_machine, parse_memory
from calibri.backbones.needs import OF_MAIN, USABLE, Ask, Need, find_need, list_modes, name_card, weigh_part
from calibri.commands.render import size_of
from calibri.errors import BackboneError
from calibri.words import count, data_size, duration

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.backbones.options import LoadOptions

HELP = "what this machine has, what a backbone needs, and which mode is suggested"
DESCRIPTION = (
    "Weights are counted from the headers of files, or a table of this version; activations and times are "
    "estimates. Only a hub id (owner/name) makes it use the network. A token is never printed."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("backbone", nargs="?", help="name, folder or hub id")
    parser.add_argument("--memory", metavar="SIZE", help="of a card, such as 12GB, instead of this machine's")
    parser.add_argument("--size", metavar="WxH", help="of the pictures (default: the backbone's)")
    parser.add_argument("--batch", type=int, default=1, help="pictures at once (default 1)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the backbone's)")
    parser.add_argument("--images", type=int, default=1500, help="of a search, for its time (default 1500)")
    parser.add_argument(
        "--measure", action="store_true", help="load the backbone as suggested, and time a picture"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    card = None if args.memory is None else parse_memory(args.memory)
    for name, value in (("--batch", args.batch), ("--images", args.images), ("--steps", args.steps or 1)):
        if value < 1:
            raise BackboneError(f"{name}: expected 1 or more, got {value}")
    machine = find_machine()
    told: dict[str, Any] = {"machine": tell_machine(machine)}
    lines = describe_machine(machine)
    if args.backbone is not None:
        spec = resolve(args.backbone)
        ask = Ask.of(spec, args.batch)
        if args.size:
            width, height = size_of(args.size)
            ask = replace(ask, width=width, height=height)
        by_name = args.backbone.strip().lower() in map(str.lower, CATALOG)
        advice = advise(spec, machine, card=card, ask=ask, ask_hub=not spec.is_local and not by_name)
        time = find_time(args, advice, machine)
        told["backbone"] = tell_advice(advice, machine, card, time)
        lines += ["", *describe_advice(advice, machine, card, time)]
    print(json.dumps(told, indent=1, ensure_ascii=False) if args.json else "\n".join(lines))
    return 0


def find_time(args: argparse.Namespace, advice: Advice, machine: Machine) -> dict[str, Any] | None:
    """What a search takes on this machine: measured, or estimated. None for another card, or what does not
    fit."""
    need = advice.suggestion.need if advice.suggestion is not None else None
    if args.memory is not None or need is None or advice.sizes is None:
        if args.measure:
            raise BackboneError("--measure: expected a backbone that fits into this machine")
        return None
    steps = args.steps or advice.spec.steps
    if args.measure:
        from calibri.backbones.loading import load_backbone

        seconds = measure_seconds(load_backbone(args.backbone, options=need.options), advice.ask, steps)
        how = "measured here"
    else:
        seconds = guess_seconds(advice.sizes, advice.ask, steps, need.options.dtype)
        how = "estimated from operations and a matrix product timed here; --measure times a picture"
    return {"images": args.images, "steps": steps, "seconds": seconds * args.images, "how": how}


def measure_seconds(backbone: Backbone, ask: Ask, steps: int) -> float:
    """Of a picture of this size, from one that is painted here in two steps; the first one warms up."""
    from calibri.sampling.renderer import Renderer
    from calibri.sampling.request import RenderRequest

    spec = backbone.spec
    renderer = Renderer(backbone, batch_size=1)
    request = RenderRequest.of("a red cube", 0, 2, guidance=spec.cfg, width=ask.width, height=ask.height)
    renderer.render([request])
    [made] = renderer.render([request])
    return made.seconds * steps / 2


def tell_machine(machine: Machine) -> dict[str, Any]:
    """As JSON values."""
    return {
        "cpu": machine.cpu,
        "cores": machine.cores,
        "memory": machine.memory,
        "free": machine.free,
        "gpus": [
            {"name": gpu.name, "memory": gpu.memory, "capability": gpu.capability} for gpu in machine.gpus
        ],
        "packages": {name: version or None for name, version in machine.packages.items()},
        "hub_token": machine.token,
    }


def tell_advice(
    advice: Advice, machine: Machine, card: int | None, time: dict[str, Any] | None
) -> dict[str, Any]:
    """As JSON values; bytes."""
    sizes, suggestion = advice.sizes, advice.suggestion
    need = suggestion.need if suggestion is not None else None
    told: dict[str, Any] = {"name": advice.spec.name, "notes": list(advice.notes), "time": time}
    if sizes is None or suggestion is None:
        return told
    return told | {
        "source": sizes.source,
        "parts": {part.name: part.values for part in sizes.parts},
        "modes": [_as_json(each, fits) for each, fits in _fits(advice, machine, card)],
        "suggested": None if need is None else need.options.to_json(),
        "words": suggestion.words,
    }


def _as_json(need: Need, fits: bool) -> dict[str, Any]:
    how: LoadOptions = need.options
    return {
        "dtype": how.dtype,
        "quantisation": how.quantisation,
        "offload": how.offload,
        "weights": need.weights,
        "activations": need.activations,
        "device": need.device,
        "main": need.main,
        "fits": fits,
    }


def _fits(advice: Advice, machine: Machine, card: int | None) -> list[tuple[Need, bool]]:
    """Each mode, and whether it fits."""
    assert advice.sizes is not None
    card = machine.card if card is None else card
    needs = [
        find_need(advice.sizes, o, advice.ask, cuda=card is not None) for o in list_modes(card is not None)
    ]
    room = OF_MAIN * machine.memory if machine.memory else float("inf")
    limit = room if card is None else USABLE * card
    return [(need, need.device <= limit and need.main <= room) for need in needs]


def describe_machine(machine: Machine) -> list[str]:
    """In lines for people."""
    free = f", {data_size(machine.free)} free" if machine.free else ""
    lines = [f"CPU: {machine.cpu}, {count(machine.cores, 'core')}"]
    lines.append(f"main memory: {data_size(machine.memory)}{free}")
    for gpu in machine.gpus:
        capability = f", compute capability {gpu.capability}" if gpu.capability else ""
        lines.append(f"GPU: {gpu.name}, {data_size(gpu.memory)}{capability}")
    if not machine.gpus:
        lines.append("GPU: none that torch can use")
    there = {name: machine.packages[name] for name in NEEDED}
    lines.append("packages: " + ", ".join(f"{name} {found or 'missing'}" for name, found in there.items()))
    for name, what in OPTIONAL.items():
        lines.append(f"{name:14s} {machine.packages[name] or 'not installed':14s} {what}")
    lines.append(f"token for the hub: {'yes' if machine.token else 'no'}")
    return lines


def describe_advice(
    advice: Advice, machine: Machine, card: int | None, time: dict[str, Any] | None
) -> list[str]:
    """In lines for people."""
    spec, sizes, suggestion = advice.spec, advice.sizes, advice.suggestion
    notes = [f"note: {note}" for note in advice.notes]
    if sizes is None or suggestion is None:
        return [spec.name, *notes]
    ask = advice.ask
    weights = ", ".join(f"{part.name} {data_size(weigh_part(part, 'bfloat16'))}" for part in sizes.parts)
    where = "card" if card is not None or machine.card is not None else "memory"
    lines = [
        f"{spec.name}, by {sizes.source}",
        f"weights in bfloat16: {weights}",
        f"{count(ask.batch, 'picture')} of {ask.width}×{ask.height} px with {count(ask.members, 'member')}:",
        f"{'mode':34s} {'weights':>9s} {'working':>9s} {where:>9s} {'main':>9s}",
    ]
    for need, fits in _fits(advice, machine, card):
        sizes_of = (need.weights, need.activations, need.device, need.main)
        columns = " ".join(f"{data_size(size) if size else '–':>9s}" for size in sizes_of)
        lines.append(f"{need.words:34s} {columns}  {'fits' if fits else ''}".rstrip())
    on = name_card(card) if card is not None else "this machine"
    lines.append(f"suggested for {on}: {suggestion.words}" if suggestion.need else suggestion.words)
    if time is not None:
        lines.append(
            f"a search of {count(time['images'], 'image')} at {time['steps']} steps: about "
            f"{duration(time['seconds'])} ({time['how']})"
        )
    return [*lines, *notes]
