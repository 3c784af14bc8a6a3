"""`calibri render`: one prompt to a PNG file that carries its settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calibri import ranges
from calibri.calibration.guidance import guide, parse_guides
from calibri.commands.loading import add_loading_arguments, read_options
from calibri.commands.prompts import tell_unread
from calibri.errors import RenderError

HELP = "make a picture of a prompt"
DESCRIPTION = "Renders a prompt with the base or a calibration. The PNG file carries all settings."


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("prompt")
    parser.add_argument("--backbone", default="tabletop", help="name, folder or hub id (default tabletop)")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="a file, or OWNER/NAME of the hub; without it: the base",
    )
    parser.add_argument("--steps", type=int, help="sampling steps (default: the backbone's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("--count", type=int, default=1, help="pictures, with this seed and the next ones")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: none)")
    parser.add_argument(
        "--guide",
        metavar="PRESETS",
        help="guidance as an ensemble: skip-layer:7,8,9:2.8, cfg:4.5, auto:0.9:2, skip-attention:7:3, joined "
        "by +; @0-0.5 behind one: in the first half of the steps",
    )
    parser.add_argument(
        "--embedded-guidance", type=float, help="of distilled models (default: the backbone's)"
    )
    parser.add_argument("--negative", default="", metavar="PROMPT", help="what negative members see")
    parser.add_argument("--size", metavar="WxH", help="in pixels (default: the backbone's)")
    parser.add_argument("--batch-size", type=int, default=8)
    add_loading_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, default=Path("out.png"), metavar="FILE.png")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.count < 1:
        raise RenderError(f"--count: expected 1 or more, got {args.count}")
    if args.out.suffix.lower() != ".png":
        raise RenderError(f"--out: expected a file that ends in .png, got {args.out}")
    from calibri.calibration.reading import read_for_backbone

    # Checked before the backbone is loaded, which takes seconds.
    calibration = None if args.calibration is None else read_for_backbone(args.calibration, args.backbone)
    if args.guide:
        parse_guides(args.guide)
    width, height = size_of(args.size) if args.size else (None, None)
    options = read_options(args, [calibration])
    check_asked(args)

    from calibri.backbones.loading import load_backbone
    from calibri.sampling.png import save_png, settings_of
    from calibri.sampling.renderer import Renderer, RenderRequest

    backbone = load_backbone(args.backbone, options=options)
    if args.guide:
        own = None if backbone.adapter.guides_itself else args.guidance
        calibration = guide(backbone, args.guide, calibration, guidance=own, backbone=backbone.spec.name)
        args.guidance = args.guidance if backbone.adapter.guides_itself else None
    steps = backbone.spec.steps if args.steps is None else args.steps
    requests = [
        RenderRequest.of(
            args.prompt,
            seed,
            steps,
            calibration=calibration,
            guidance=args.guidance,
            embedded_guidance=args.embedded_guidance,
            negative_prompt=args.negative,
            width=width,
            height=height,
        )
        for seed in range(args.seed, args.seed + args.count)
    ]
    tell_unread(backbone, filter(None, (args.prompt, args.negative)))
    show = show_step if sys.stderr.isatty() else None
    for rendered in Renderer(backbone, args.batch_size).render(requests, on_step=show):
        seed = rendered.request.seed
        path = args.out if args.count == 1 else args.out.with_stem(f"{args.out.stem}-{seed}")
        save_png(rendered.image, path, settings_of(rendered, backbone, calibration))
        print(f"{path}: seed {seed}, {steps} steps, {rendered.nfe} NFE, {rendered.seconds:.2f} s")
    return 0


def check_asked(args: argparse.Namespace) -> None:
    """The ranges that pages and programs have too. Raises RenderError before anything is loaded."""
    readers: dict[str, Callable[[Any], object]] = {
        "prompt": ranges.check_prompt,
        "negative": ranges.check_prompt,
        "seed": ranges.read_seed,
        "steps": ranges.read_steps,
        "guidance": ranges.read_guidance,
        "embedded_guidance": ranges.read_embedded_guidance,
    }
    for name, read in readers.items():
        value = getattr(args, name)
        try:
            if value is not None:
                read(value)
            if name == "seed":
                read(value + args.count - 1)
        except ValueError as error:
            option = name if name == "prompt" else f"--{name.replace('_', '-')}"
            raise RenderError(f"{option}: {error}") from None


def size_of(text: str) -> tuple[int, int]:
    """`1024x768` → (width, height) in pixels. Raises RenderError."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise RenderError(f"--size: expected WIDTHxHEIGHT, got {text!r}") from error
    return width, height


def show_step(done: int, total: int) -> None:
    """The step under way, on one line of the terminal."""
    print(f"\rstep {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
