"""`calibri search`: find a better calibration, watch it being found, resume it, read it by machine."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from calibri.commands.loading import add_loading_arguments, given_options, read_options
from calibri.commands.prompts import load_prompts, tell_unread
from calibri.commands.render import size_of
from calibri.commands.rewards import add_loading, add_scores, admit_files, open_scores, read_loading
from calibri.commands.starts import find_start
from calibri.errors import SearchError
from calibri.rewards.own import admit_addresses, admit_recorded
from calibri.search.config import USUAL_FRONT, Budget, SearchConfig
from calibri.search.form import Limits, SearchForm
from calibri.search.pictures import preset_note
from calibri.search.presets import PRESETS

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

# Options that become the setting of the same name, if they are given.
OPTIONS = (
    "seed",
    "steps",
    "guidance",
    "popsize",
    "sigma0",
    "weight_sigma",
    "mirrors",
    "bucket",
    "race",
    "pool",
    "batch_size",
    "objective",
    "front",
    "temperature",
    "alpha",
    "convergence",
    "stop_on_fall",
    "validation_pairs",
    "held_out_pairs",
    "optimizer",
    "tail",
    "point",
    "step_limit",
)

HELP = "find a better calibration"
DESCRIPTION = (
    "Searches scales by CMA-ES against rewards. Ctrl-C finishes the batch under way, "
    "judges what was found on held-out prompts and saves it; a second Ctrl-C skips the judgement. "
    "A run that was killed goes on with --resume."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    _add_run(parser.add_argument_group("run"))
    _add_searched(parser.add_argument_group("what is searched"))
    _add_pictures(parser.add_argument_group("pictures and rewards"))
    add_loading_arguments(parser.add_argument_group("loading the backbone"))
    _add_fine(parser.add_argument_group("fine settings (presets choose them)"))


def _add_run(where: argparse._ArgumentGroup) -> None:
    where.add_argument("--out", type=Path, metavar="RUN", help="folder of a new run")
    where.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run where it stopped")
    where.add_argument(
        "--images", type=int, help="stop after this many pictures (default 4000 if no limit is set)"
    )
    where.add_argument("--minutes", type=float, help="stop after this long")
    where.add_argument("--generations", type=int, help="stop after this many generations")
    where.add_argument("--seed", type=int, help="any number from 0 (default 0); it fixes every candidate")
    where.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS", help="spread pictures over Ray workers"
    )
    where.add_argument(
        "--on",
        metavar="hf-jobs[:FLAVOR]",
        help="search on a machine of the hub, paid by the account of HF_TOKEN",
    )
    where.add_argument("--workers", type=int, help="Ray workers (default: one for each GPU, or 2)")
    where.add_argument("--json", action="store_true", help="print records as JSON lines")


def _add_searched(what: argparse._ArgumentGroup) -> None:
    what.add_argument("--backbone", default="tabletop", help="name, folder or hub id (default tabletop)")
    what.add_argument("--granularity", default="layer", choices=("block", "layer", "gate"))
    what.add_argument(
        "--ensemble",
        metavar="CONDITIONS",
        help="search members and their weights together: positive,negative or positive,positive,negative",
    )
    what.add_argument(
        "--phases",
        metavar="SHARES",
        help="scales of their own for each part of the trajectory, such as 0.5 for an early and a late half",
    )
    what.add_argument(
        "--start",
        metavar="FROM",
        help="a calibration (a file, or OWNER/NAME of the hub), a sweep, guidance:1.5, or guidance presets "
        "such as skip-layer:7,8,9:2.8, alone or behind a file and + (default: base)",
    )
    what.add_argument("--preset", default="default", choices=tuple(PRESETS))
    what.add_argument(
        "--bounds", metavar="LOW,HIGH", help="of scales (default: 0.5,1.5 on tabletop, else -1,2)"
    )
    what.add_argument("--weight-bounds", metavar="LOW,HIGH", help="of output weights (default -10,10)")


def _add_pictures(how: argparse._ArgumentGroup) -> None:
    how.add_argument(
        "--reward",
        metavar="NAMES",
        help="comma-separated names or files, each with a weight if wanted: a,b:2,./my.py:Mine",
    )
    how.add_argument(
        "--judge", default="", metavar="NAMES", help="rewards to report at the end, never optimised"
    )
    add_loading(how)
    add_scores(how)
    how.add_argument("--optimize-judges", action="store_true", help="allow judges in --reward")
    how.add_argument("--steps", type=int, help="sampling steps (default: the preset's or the backbone's)")
    how.add_argument("--size", metavar="WxH", help="picture size (default: the preset's or the backbone's)")
    how.add_argument(
        "--guidance",
        type=float,
        help="of the base that everything is compared with (default: the backbone's)",
    )
    how.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt a line to search on")
    how.add_argument(
        "--held-out", type=Path, metavar="FILE", help="one prompt a line for the final judgement"
    )
    how.add_argument(
        "--front",
        type=int,
        nargs="?",
        const=USUAL_FRONT,
        metavar="POINTS",
        help="find a front over the rewards instead of one calibration: at least so many points (default "
        f"{USUAL_FRONT}) that trade one reward for another, each judged",
    )
    how.add_argument("--objective", choices=("difference", "win-rate"))
    how.add_argument(
        "--temperature",
        type=_temperature,
        metavar="NUMBER|reward",
        help="of the win rate: in spreads of the base's differences (default 2), or the log odds that each "
        "reward was trained on",
    )
    how.add_argument("--alpha", type=float, help="of the win rate of probabilities (default 1)")


def _temperature(text: str) -> float | str:
    return text if text == "reward" else float(text)


def _add_fine(fine: argparse._ArgumentGroup) -> None:
    fine.add_argument("--optimizer", choices=("cma", "mirrored-adam"))
    fine.add_argument("--sigma0", type=float, help="first step of scales")
    fine.add_argument("--weight-sigma", type=float, help="first step of output weights")
    fine.add_argument("--popsize", type=int, help="candidates a generation")
    fine.add_argument("--mirrors", type=float, help="share of candidates that mirror the worst")
    fine.add_argument("--bucket", type=int, help="(prompt, seed) pairs a generation")
    fine.add_argument("--race", type=int, help="pairs for all before the worse half drops out; 0 is no race")
    fine.add_argument("--pool", type=int, help="pairs to draw buckets from; 0 draws new ones each time")
    fine.add_argument("--tail", type=float, help="share of the images over which means are averaged")
    fine.add_argument(
        "--point",
        choices=("tail", "fitted"),
        help="what is kept: the average of the means, or halfway to the optimum of a fit to all scores",
    )
    fine.add_argument(
        "--step-limit", choices=("decay", "none"), help="whether steps must shrink as the search goes on"
    )
    fine.add_argument("--batch-size", type=int, help="pictures rendered at once")
    fine.add_argument("--convergence", choices=("validation", "paper", "none"))
    fine.add_argument(
        "--stop-on-fall",
        action="store_true",
        default=None,
        help="stop when a judge falls on the validation pairs while the reward rises",
    )
    fine.add_argument("--validation-pairs", type=int)
    fine.add_argument("--held-out-pairs", type=int)


@dataclass
class _Stopper:
    """Counts requests to stop."""

    count: int = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C asks to stop; the third one interrupts."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.count += 1
            if self.count >= 3:
                raise KeyboardInterrupt
            words = (
                "stopping after this batch; again to skip the judgement" if self.count == 1 else "skipping"
            )
            print(f"\n{words} …", file=sys.stderr)

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(args: argparse.Namespace) -> int:
    """Runs the command; 0 also where nothing better was found, because the search itself worked."""
    if (args.out is None) == (args.resume is None):
        raise SearchError("give --out RUN for a new run, or --resume RUN to go on with one")
    if args.on:
        from calibri.commands.on_hub import run_on_hub

        return run_on_hub(args)
    budget = read_limits(args)
    from calibri.backbones.loading import load_backbone
    from calibri.search.journal import JournalTail

    if args.resume is not None:
        refuse_changes(args)
        config = JournalTail(args.resume).config()
        if config is None:
            raise SearchError(f"{args.resume} is no run folder: it has no config.json")
        admit_recorded(config.reward_names)
        admit_addresses(config.reward_loading.sources.values())
        folder = args.resume
        backbone = load_backbone(config.backbone, options=config.load_options)
    else:
        folder = args.out
        if not args.reward:
            raise SearchError("give --reward NAMES, for example --reward tabletop-align,tabletop-quality")
        args.reward, args.judge = admit_files(args.reward), admit_files(args.judge)
        form = read_form(args)
        loading = read_loading(args, form.reward_names)
        backbone = load_backbone(args.backbone, options=read_options(args))
        config = make_config(args, form, backbone).model_copy(update={"reward_loading": loading})
        if note := preset_note(config.preset, backbone.spec):
            print(f"note: {note}", file=sys.stderr)
        tell_unread(backbone, [*config.prompts, *config.validation_prompts, *config.held_out_prompts])
    return _search(args, config, folder, backbone, budget)


def refuse_changes(args: argparse.Namespace) -> None:
    """A resumed run keeps its settings: candidates follow from them. Raises SearchError for one that is
    given.
    """
    fixed = (
        *OPTIONS,
        "reward",
        "ensemble",
        "phases",
        "start",
        "bounds",
        "weight_bounds",
        "size",
        "prompts",
        "held_out",
        "reward_source",
        "reward_device",
        "reward_dtype",
    )
    given = [name for name in fixed if getattr(args, name) not in (None, [])] + [*given_options(args)]
    if given:
        option = "--" + given[0].replace("_", "-").replace("loras", "lora")
        raise SearchError(f"a resumed run keeps its settings: leave out {option}, or start a new run")


def _search(
    args: argparse.Namespace, config: SearchConfig, folder: Path, backbone: Backbone, budget: Budget | None
) -> int:
    from calibri.commands.live import JsonView, live_view
    from calibri.rewards.cache import cached
    from calibri.search.journal import read_journal
    from calibri.search.run import run_search

    earlier = read_journal(folder) if args.resume is not None else []
    stopper = _Stopper()
    view = JsonView() if args.json else live_view(config, folder)
    for record in earlier:
        view.replay(record)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopper.listening())
        scorer = None
        if args.ray:
            from calibri.search.distributed import RayScorer

            workers = RayScorer.connected(config, args.ray, workers=args.workers, scores=args.scores)
            scorer = stack.enter_context(workers)
            rewards = {}
        else:
            rewards = config.reward_loading.load(config.reward_names, backbone.device)
            rewards = cached(rewards, open_scores(args.scores))
        stack.enter_context(view)
        for record in run_search(
            config,
            folder,
            backbone=backbone,
            rewards=rewards,
            budget=budget,
            stop=lambda: stopper.count > 0,
            abandon=lambda: stopper.count > 1,
            progress=view.progress,
            scorer=scorer,
        ):
            view.show(record)
    return 0


def name_option(field: str) -> str:
    """`held_out_pairs` → `--held-out-pairs`."""
    return f"--{field.replace('_', '-')}"


def read_limits(args: argparse.Namespace) -> Budget | None:
    """The limits given, or None. Raises SearchError."""
    given = {name: value for name in Limits.model_fields if (value := getattr(args, name)) is not None}
    return Limits.read(given, name_option).budget


def read_form(args: argparse.Namespace) -> SearchForm:
    """The settings of a new search from the command's options. Raises SearchError."""
    named = (*OPTIONS, "phases", "bounds", "weight_bounds", "preset", "granularity", "optimize_judges")
    values = {name: value for name in named if (value := getattr(args, name)) is not None}
    values |= {"rewards": args.reward, "judges": args.judge, "loading": read_options(args)}
    if args.size:
        values["width"], values["height"] = size_of(args.size)
    given = {"prompts": load_prompts(args.prompts), "held_out_prompts": load_prompts(args.held_out)}
    values |= {name: prompts for name, prompts in given.items() if prompts is not None}
    if args.ensemble:
        values["conditions"] = tuple(part.strip() for part in args.ensemble.split(","))
    if (args.start or "").startswith("guidance:"):
        try:
            values["strength"] = float(args.start.removeprefix("guidance:"))
        except ValueError as error:
            raise SearchError(f"--start: expected guidance:NUMBER, got {args.start!r}") from error
    return SearchForm.read(values, name_option)


def make_config(args: argparse.Namespace, form: SearchForm, backbone: Backbone) -> SearchConfig:
    """The config of a new run. Raises SearchError."""
    from calibri.backbones.catalog import CATALOG

    # A folder as it is, so that a resumed run finds it; a catalog's backbone by its name.
    known = CATALOG.get(backbone.spec.name)
    is_catalogs = known is not None and known.source == backbone.spec.source
    named = backbone.spec.name if is_catalogs else args.backbone
    return form.config(backbone, named, find_start(args, backbone))
