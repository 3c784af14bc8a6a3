"""`calibri render`: one prompt to a PNG file that carries its settings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from calibri.commands.prompts import tell_unread
from calibri.errors import RenderError

HELP = "make a picture of a prompt"
DESCRIPTION = "Renders a prompt with the base or a calibration. The PNG file carries all settings."


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("prompt")
    parser.add_argument("--backbone", default="tabletop", help="name, folder or hub id (default tabletop)")
    parser.add_argument("--calibration", type=Path, metavar="FILE.json", help="without it: the base")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the backbone's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("--count", type=int, default=1, help="pictures, with this seed and the next ones")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: none)")
    parser.add_argument(
        "--embedded-guidance", type=float, help="of distilled models (default: the backbone's)"
    )
    parser.add_argument("--negative", default="", metavar="PROMPT", help="what negative members see")
    parser.add_argument("--size", metavar="WxH", help="in pixels (default: the backbone's)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16, mixed")
    parser.add_argument("--offload", choices=("model", "sequential", "group"))
    parser.add_argument("--quantisation", choices=("8bit", "4bit"))
    parser.add_argument("--lora", metavar="LORA", help="file, folder or hub id")
    parser.add_argument("-o", "--out", type=Path, default=Path("out.png"), metavar="FILE.png")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.count < 1:
        raise RenderError(f"--count: expected 1 or more, got {args.count}")
    if args.out.suffix.lower() != ".png":
        raise RenderError(f"--out: expected a file that ends in .png, got {args.out}")
    from calibri.calibration.artifact import Calibration

    # Checked before the backbone is loaded, which takes seconds.
    calibration = None if args.calibration is None else Calibration.load(args.calibration)
    width, height = size_of(args.size) if args.size else (None, None)

    from calibri.backbones.loading import load_backbone
    from calibri.sampling.png import save_png, settings_of
    from calibri.sampling.renderer import Renderer, RenderRequest

    backbone = load_backbone(
        args.backbone,
        device=args.device,
        dtype=args.dtype,
        offload=args.offload,
        quantisation=args.quantisation,
        lora=args.lora,
    )
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
    show = _show_step if sys.stderr.isatty() else None
    for rendered in Renderer(backbone, args.batch_size).render(requests, on_step=show):
        seed = rendered.request.seed
        path = args.out if args.count == 1 else args.out.with_stem(f"{args.out.stem}-{seed}")
        save_png(rendered.image, path, settings_of(rendered, backbone, calibration))
        print(f"{path}: seed {seed}, {steps} steps, {rendered.nfe} NFE, {rendered.seconds:.2f} s")
    return 0


def size_of(text: str) -> tuple[int, int]:
    """`1024x768` → (width, height) in pixels. Raises RenderError."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise RenderError(f"--size: expected WIDTHxHEIGHT, got {text!r}") from error
    return width, height


def _show_step(done: int, total: int) -> None:
    print(f"\rstep {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
