"""What Quick vote shows of its votes."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from calibri.words import count
from studio.core import Core
from studio.quick_vote.runs import Run
from studio.quick_vote.votes import Reveal, analyse_votes
from studio.studies.pages.board import draw_board
from studio.studies.results import charts
from studio.studies.results.analysis import headline
from studio.studies.results.board import make_board
from studio.studies.studies import Studies
from studio.ui.elements import empty, hint
from studio.ui.templates import fill_template


def draw_bar(run: Run) -> str:
    """Who won how many of the votes of this run; nothing before the first."""
    if not run.votes:
        return ""
    kinds = {arm.label: arm.kind for arm in run.named}
    rows = [
        {"label": label, "kind": kinds.get(label, "calibrated"), "wins": run.wins[label], "met": met}
        for label, met in sorted(run.met.items(), key=lambda item: (-run.wins[item[0]] / item[1], item[0]))
    ]
    said = [count(run.votes, "vote"), f"{run.answers['tie']} without a difference"]
    said.append(f"{run.answers['both_bad']} with both bad")
    return fill_template("quick_vote/bar.html", rows=rows, said=", ".join(said))


def tell_vote(told: Reveal) -> str:
    """Which arm was where, after the vote."""
    words = Markup("Just now A was <b>{}</b>, B was <b>{}</b>.").format(told.left, told.right)
    return str(Markup("<div class='aside' role='status'>{}</div>").format(words))


def ask_for(prompt: str) -> str:
    """The question on the pair on screen."""
    return hint(Markup("<b>{}</b>: which one do you like better?").format(" ".join(prompt.split())))


def draw_score(core: Core, studies: Studies) -> tuple[str, Any]:
    """(sentences, forest plot) of all quick votes on this backbone."""
    analysis = analyse_votes(studies, core.backbone_name)
    if analysis is None or not analysis.total:
        return empty("Win rates will appear here after the first vote."), None
    met = [headline(table) for table in analysis.tables["preference"] if table.tally.total]
    lines = Markup("").join(Markup("<div>{}</div>").format(sentence) for sentence in met)
    return hint(lines), charts.forest(analysis, "preference", met_only=True)


def draw_all(core: Core, studies: Studies) -> str:
    """The board of all saved calibrations of this backbone."""
    return draw_board(make_board(studies, core.backbone_name, core.fitting_calibrations()))
