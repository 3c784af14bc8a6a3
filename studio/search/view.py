"""The page Search in words: where a search is, its generations, its log and its pictures, as HTML. Pure."""

from __future__ import annotations

import base64
import html
import io
import re
from typing import TYPE_CHECKING

from calibri.words import duration, grouped
from studio.search.runs import Run, as_words
from studio.search.status import JobStatus

if TYPE_CHECKING:
    from PIL.Image import Image

    from studio.search.filmstrip import Strip
    from studio.search.form import Cost

ROWS = 60  # generations in the table
LINES = 200  # of the log
THUMB = 192  # px: the side of a large backbone's pictures in the strip


def cost_words(cost: Cost) -> str:
    """The estimate in sentences, as HTML."""
    first = (
        f"<b>{cost.numbers}</b> numbers are searched. {grouped(cost.images)} images are about "
        f"<b>{cost.generations} generations</b> of {grouped(cost.each)}"
        + (f", then {grouped(cost.judging)} more to judge the result." if cost.judging else ".")
    )
    if cost.seconds is None or cost.per_image is None:
        return f"{first} The speed of this machine is being measured."
    rate = f"{1 / cost.per_image:.2g} images a second" if cost.per_image else ""
    return (
        f"{first} On this machine about <b>{duration(cost.seconds, exact=True)}</b>, at {rate} as measured."
    )


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
    "interrupted": "The studio ended, or the search was left, while it was under way. Resume goes on at the "
    "same place, on the same trajectory.",
    "elsewhere": "Its journal is read as it grows. Pause and stop it where it was started.",
    "failed": "Mend what the sentence names, then press Resume: it goes on after the last generation.",
}
NOT_BETTER = {
    "not told apart": "This is no proof of being better: the interval holds zero. More images, more held-out "
    "pairs or another seed may tell. You can still look at the point it reached.",
    "worse": "This is worse than the base on prompts that the search did not see. Try another reward, a "
    "smaller first step, or more images.",
    "not judged": "The judgement was skipped, so nothing is known of held-out prompts. Resume makes up "
    "for it.",
}


def choice_words(status: JobStatus) -> str:
    """A search in the picker."""
    return f"{status.title} · {STATE_WORDS[status.state]}"


def card(status: JobStatus, run: Run) -> str:
    """Where a search is, in words, as HTML."""
    limit = status.images_limit
    share = min(1.0, status.images / limit) if limit else 0.0
    facts = [f"{grouped(status.images)}{f' of {grouped(limit)}' if limit else ''} images"]
    facts.append(f"{grouped(status.generations)} generation{'s' if status.generations != 1 else ''}")
    if status.images_per_second:
        facts.append(f"{status.images_per_second:.2g} images a second")
    if status.seconds:
        facts.append(f"{duration(status.seconds, exact=True)} so far")
    if status.seconds_left is not None and status.state != "done":
        facts.append(f"{duration(status.seconds_left, exact=True)} left")
    by = f", started by {html.escape(run.note.by)}" if run.note.by else ""
    bar = f"<progress max='1' value='{share:.4f}' aria-label='images used'></progress>" if limit else ""
    doing = f"<div class='sub'>{html.escape(status.doing)}</div>" if status.doing else ""
    return (
        "<div class='run-card'><div class='run-top'>"
        f"<span class='run-title'>{html.escape(status.title)}</span>"
        f"<span class='run-state run-{status.state}' role='status'>{STATE_WORDS[status.state]}</span>"
        f"<span class='sub'>{by.removeprefix(', ')}</span></div>{bar}"
        f"<div>{html.escape(' · '.join(facts))}</div>{doing}{_end(status, run)}</div>"
    )


def _end(status: JobStatus, run: Run) -> str:
    """What went wrong, or what came out."""
    if status.state in ADVICE:
        error = f"<b>{html.escape(status.error)}</b> " if status.error else ""
        return f"<div class='hint'>{error}{ADVICE[status.state]}</div>"
    if status.state != "done" or run.result is None:
        return ""
    result = run.result
    gains = "".join(
        f"<tr><td>{html.escape(name)}{' (judge)' if name in result.judges else ''}</td>"
        f"<td class='n'>{html.escape(_minus(gain.text()))}</td></tr>"
        for name, gain in result.gains.items()
    )
    table = f"<table aria-label='gain over the base on held-out pairs'>{gains}</table>" if gains else ""
    more = f" {NOT_BETTER[result.verdict]}" if result.verdict in NOT_BETTER else ""
    told = f"Ended: {result.reason}. {result.text.split('; the point')[0].rstrip('.')}.{more}"
    kind = result.verdict.replace(" ", "-")
    return f"<div class='hint verdict-{kind}'>{html.escape(_minus(told))}{table}</div>"


def _minus(text: str) -> str:
    """Numbers with a real minus sign."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def table(run: Run) -> str:
    """The last generations, newest first."""
    if not run.steps:
        return "<div class='empty'>Generations will stand here, one row each.</div>"
    head = "".join(
        f"<th>{words}</th>"
        for words in ("generation", "images", "best", "mean, 95 %", "sigma", "axis ratio", "after")
    )
    rows = []
    for step in run.steps[: -ROWS - 1 : -1]:
        cells = (
            str(step.generation + 1),
            grouped(step.images),
            f"{step.best:+.2f}",
            f"{step.mean_gain:+.2f} [{step.low:+.2f}, {step.high:+.2f}]",
            f"{step.sigma:.3g}",
            f"{step.axis_ratio:.2f}",
            duration(step.seconds, exact=True),
        )
        rows.append("<tr>" + "".join(f"<td>{cell.replace('-', '−')}</td>" for cell in cells) + "</tr>")
    shown = ""
    if len(run.steps) > ROWS:
        shown = f"<div class='aside'>The last {ROWS} of {grouped(len(run.steps))} generations.</div>"
    return f"<div class='run-table'><table><tr>{head}</tr>{''.join(rows)}</table>{shown}</div>"


def story(run: Run) -> str:
    """The log, newest first."""
    lines = [
        f"<li><span class='sub'>{html.escape(when[:19].replace('T', ' '))}</span> {html.escape(what)}</li>"
        for when, what in run.log[: -LINES - 1 : -1]
    ]
    return f"<ul class='run-log'>{''.join(lines)}</ul>" if lines else "<div class='empty'>Nothing yet.</div>"


def settings_table(run: Run) -> str:
    """All that a run was set up with."""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in as_words(run.config).items()
    )
    return f"<div class='run-table'><table>{rows}</table></div>"


def strip_html(strip: Strip | None, run: Run | None) -> str:
    """Base and point reached on fixed prompts, as HTML with the pictures inside."""
    if run is None or not run.steps:
        return (
            "<div class='empty'>The pictures of the search will stand here after its first generation.</div>"
        )
    if strip is None:
        return (
            "<div class='empty'>The pictures of the point reached are rendered between the batches of the "
            "search, when its backbone is loaded.</div>"
        )
    frames = "".join(
        f"<figure><div class='two'>{_img(base, 'base', prompt)}{_img(now, 'calibrated', prompt)}</div>"
        f"<figcaption>{html.escape(prompt)}</figcaption></figure>"
        for prompt, base, now in zip(strip.prompts, strip.base, strip.now)
    )
    words = (
        f"Left the base, right the point reached after {grouped(strip.images)} images, which is what the "
        f"search keeps: the average of the means over the last {run.config.tail:.0%} of them"
        + (", halfway to the optimum of a fit to all scores." if run.config.point == "fitted" else ".")
    )
    return f"<div class='aside'>{words}</div><div class='film'>{frames}</div>"


def _img(image: Image, arm: str, prompt: str) -> str:
    small = image
    if max(image.size) > THUMB:
        small = image.copy()
        small.thumbnail((THUMB, THUMB))
    file = io.BytesIO()
    small.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    words = html.escape(f"{'base' if arm == 'base' else 'point reached'}: {prompt}")
    return (
        f"<img class='arm-{arm}' alt='{words}' width='{small.width}' height='{small.height}' "
        f"src='data:image/png;base64,{data}'>"
    )
