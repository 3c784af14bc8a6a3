"""The page Search in words: where a search is, its generations, its log and its pictures, as HTML. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from calibri.backbones.catalog import backbone_name
from calibri.calibration.artifact import Member
from calibri.calibration.phases import describe_phase
from calibri.calibration.scale_names import group_of
from calibri.rewards.sources import name_source
from calibri.search.config import MemberRole, SearchConfig
from calibri.search.front import shares_of
from calibri.search.spot_pictures import spot_files
from calibri.search.stopping import STOPPED
from calibri.words import count, duration, grouped
from studio.search.runs import Run
from studio.search.status import STOPPED_BEFORE, JobStatus
from studio.ui.elements import empty
from studio.ui.picture_files import small_png
from studio.ui.templates import fill_template

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from studio.search.filmstrip import Strip
    from studio.search.form import Cost

ROWS = 60  # generations in the table
LINES = 200  # of the log

STATE_WORDS = {
    "queued": "in the queue",
    "running": "searching",
    "paused": "paused",
    "stopping": "ending",
    "done": "finished",
    "failed": "failed",
    "interrupted": "interrupted",
    "elsewhere": "runs in another program",
}
ADVICE = {
    "unstarted": "It waited in the queue and was taken out of it. Resume puts it back.",
    "interrupted": "The studio ended, or the search was left, before it was over. Resume continues at the "
    "same place, on the same trajectory.",
    "elsewhere": "Another program writes it; this page follows. Pause and stop it where it was started.",
    "failed": "Fix the problem above, then press Resume: the search continues after its last generation.",
}
NOT_BETTER = {
    "not told apart": "This is no proof of being better: the interval holds zero. More images, more held-out "
    "pairs or another seed may tell. You can still look at the point it reached.",
    "worse": "This is worse than the base on prompts that the search did not see. Try another reward, a "
    "smaller first step, or more images.",
    "not judged": "The judgement was skipped, so nothing is known about held-out prompts. Resume runs it.",
}


def cost_html(cost: Cost) -> Markup:
    """The estimate in sentences."""
    words = Markup(
        "<b>{}</b> numbers are searched. {} images are about <b>{} generations</b> of {}{}."
    ).format(
        cost.numbers,
        grouped(cost.images),
        cost.generations,
        grouped(cost.each),
        f", then {grouped(cost.judging)} more to judge the result" if cost.judging else "",
    )
    if cost.seconds is None or not cost.per_image:
        return words + " The speed of this machine is being measured."
    return words + Markup(" On this machine about <b>{}</b>, at {} images a second as measured.").format(
        duration(cost.seconds, exact=True), f"{1 / cost.per_image:.2g}"
    )


def state_words(status: JobStatus) -> str:
    """How a search stands, in a word or two: what a person stopped is neither finished nor interrupted."""
    if status.ended == STOPPED_BEFORE:
        return STOPPED_BEFORE
    return "stopped" if status.ended == STOPPED else STATE_WORDS[status.state]


def choice_words(status: JobStatus) -> str:
    """A search in the picker."""
    return " · ".join(filter(None, (status.title, status.when[:10], state_words(status))))


def card(status: JobStatus, run: Run) -> str:
    """Where a search is, in words."""
    limit = status.images_limit
    facts = [f"{grouped(status.images)}{f' of {grouped(limit)}' if limit else ''} images"]
    facts.append(count(status.generations, "generation"))
    if status.images_per_second:
        facts.append(f"{status.images_per_second:.2g} images a second")
    if status.seconds:
        facts.append(f"{duration(status.seconds, exact=True)} so far")
    if status.seconds_left is not None and status.state != "done":
        facts.append(f"{duration(status.seconds_left, exact=True)} left")
    return fill_template(
        "search/card.html",
        status=status,
        by=_begun(status, run),
        state=state_words(status),
        share=f"{min(1.0, status.images / limit):.4f}" if limit else "",
        facts=" · ".join(facts),
        falls=[_minus(fall.text) for fall in run.falls],
        advice=ADVICE.get("unstarted" if status.ended == STOPPED_BEFORE else status.state, ""),
        end=_end(run) if status.state == "done" else None,
    )


def _begun(status: JobStatus, run: Run) -> str:
    when = f"begun {status.when[:16].replace('T', ' ')} UTC" if status.when else ""
    return ", ".join(filter(None, (when, f"started by {run.note.by}" if run.note.by else "")))


def _end(run: Run) -> dict[str, Any] | None:
    """What came out of a search: its verdict, in a sentence, and the gain of each reward."""
    result = run.result
    if result is None:
        return None
    reached = result.text.split("; the point")[0].rstrip(".")
    more = NOT_BETTER.get(result.verdict, "")
    return {
        "verdict": result.verdict.replace(" ", "-"),
        "text": _minus(f"Ended: {result.reason}. {reached}. {more}".rstrip()),
        "gains": [
            (f"{name} (judge)" if name in result.judges else name, _minus(gain.text()))
            for name, gain in result.gains.items()
        ],
    }


def _minus(text: str) -> str:
    """Numbers with a real minus sign."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def generation_table(run: Run) -> str:
    """The last generations, newest first."""
    if not run.generations:
        return empty("The generations of this search will appear here.")
    rows = [
        (
            str(step.generation + 1),
            grouped(step.images),
            f"{step.best:+.2f}",
            step.bucket_mean.text(2),
            f"{step.sigma:.3g}",
            f"{step.axis_ratio:.2f}",
            duration(step.seconds, exact=True),
        )
        for step in run.generations[: -ROWS - 1 : -1]
    ]
    total = len(run.generations)
    return fill_template(
        "search/table.html",
        head=("generation", "images", "best", "mean, 95 %", "sigma", "axis ratio", "after"),
        rows=[[cell.replace("-", "−") for cell in row] for row in rows],
        note=f"The last {ROWS} of {grouped(total)} generations." if total > ROWS else "",
    )


def log_list(run: Run) -> str:
    """What happened, newest first."""
    lines = [(when[:19].replace("T", " "), what) for when, what in run.log[: -LINES - 1 : -1]]
    return fill_template("search/log.html", lines=lines) if lines else empty("Nothing has happened yet.")


def _name_role(condition: str, role: MemberRole) -> str:
    """`positive`, `positive (held, 1–20 % of the steps)`."""
    kinds = {"searched": "", "first": "as the first one", "held": "held"}
    if role.without:
        kinds["first"] += f" without {', '.join(dict.fromkeys(map(group_of, role.without)))}"
    phase = describe_phase(Member(scales=(), **role.placed))
    words = ", ".join(filter(None, (kinds[role.scales], phase)))
    return f"{condition} ({words})" if words else condition


def settings_table(run: Run) -> str:
    """All that a run was set up with."""
    return fill_template("search/table.html", head=(), rows=list(setting_words(run.config).items()), note="")


def setting_words(config: SearchConfig) -> dict[str, Any]:
    """The settings of a search for people: label → value."""
    roles = config.roles or (MemberRole(),) * len(config.conditions)
    stops = {"validation": "when validation stops rising", "paper": "by the paper's rule"}
    return {
        "Backbone": backbone_name(config.backbone),
        "Granularity": config.granularity,
        "Members": ", ".join(map(_name_role, config.conditions, roles)),
        "Start": config.start_from,
        "Rewards": ", ".join(term.text for term in config.rewards),
        "What comes out": f"a front of {len(shares_of(config))} points"
        if config.front
        else "one calibration",
        "Judges": ", ".join(config.judges) or "none",
        **_loading_words(config),
        "Steps": config.steps,
        "Size": f"{config.width}×{config.height}" if config.width else "the backbone's own",
        "Guidance of the base": config.guidance or "none",
        "Preset": config.preset,
        "Seed": config.seed,
        "First step (sigma)": config.sigma0,
        "Bounds": f"{config.bounds[0]:g} to {config.bounds[1]:g}",
        "Prompts": f"{len(config.prompts)} to search, {len(config.validation_prompts)} to validate, "
        f"{len(config.held_out_prompts)} to judge",
        "Pairs a generation": config.bucket,
        "Pictures in a batch": config.batch_size,
        "Backbone loaded": config.load_options.words or "as usual",
        "Stops by itself": stops.get(config.convergence, "only at its budget")
        + (", or when a judge falls while the reward rises" if config.stop_on_fall else ""),
    }


def _loading_words(config: SearchConfig) -> dict[str, str]:
    """Where the rewards' weights come from and how they are loaded, where that is not the usual."""
    loading = config.reward_loading
    sources = [f"{name}: {name_source(source)}" for name, source in loading.sources.items()]
    given = [value for value in (loading.device, loading.dtype) if value != "auto"]
    words = {"Weights of rewards": ", ".join(sources), "Rewards on": ", ".join(given)}
    return {label: value for label, value in words.items() if value}


def strip_html(strip: Strip | None, run: Run) -> str:
    """Base and point reached on fixed prompts, with the pictures inside."""
    if not run.generations:
        return empty("The pictures of this search will appear here after its first generation.")
    if strip is None:
        return empty(
            "The pictures of the point reached are rendered between the batches of the search, when its "
            "backbone is loaded."
        )
    config = run.config
    words = (
        f"Left the base, right the point reached after {grouped(strip.images)} images, which is what the "
        f"search keeps: the average of the means over the last {100 * config.tail:.0f} % of them"
        + (", halfway to the optimum of a fit to all scores." if config.point == "fitted" else ".")
    )
    frames = [
        (prompt, [("base", "base", small_png(base)), ("calibrated", "point reached", small_png(now))])
        for prompt, base, now in zip(strip.prompts, strip.base, strip.now)
    ]
    return fill_template("search/film.html", words=words, frames=frames)


def spots_html(run: Run) -> str:
    """The held-out pictures on which the reward rose most while a judge fell; empty where there are none."""
    spots = run.result.blind_spots if run.result is not None and run.over else []
    frames = []
    for spot, files in zip(spots, spot_files(run.folder, len(spots)), strict=True):
        words = f"{spot.prompt} (seed {spot.seed}): reward {spot.gain:+.2f} spreads, "
        words += f"{spot.judge} {spot.fall:+.3g}"
        try:
            base, found = (small_png(read_picture(file)) for file in files)
        except OSError:  # made elsewhere, or never
            continue
        frames.append((_minus(words), [("base", "base", base), ("calibrated", "point reached", found)]))
    if not frames:
        return ""
    words = (
        f"Blind spots: {count(len(frames), 'held-out picture')} on which the reward rose most while a judge "
        "fell. Left the base, right the point reached. Here one sees what the reward overlooks."
    )
    return fill_template("search/film.html", words=words, frames=frames)


def read_picture(file: Path) -> Image:
    """A picture that a search kept. Raises OSError."""
    from PIL import Image as Pictures

    with Pictures.open(file) as image:
        return image.convert("RGB")
