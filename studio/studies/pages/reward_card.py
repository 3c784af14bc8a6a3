"""The card *What rewards say* on Results: which reward predicts what people chose. For organisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from calibri.preference import Correlation, NoData, Rate
from calibri.words import count
from studio.core import Core
from studio.machine.offers import SHOWN_FOR, offer_rewards
from studio.studies.results.analysis import Filter, read_votes
from studio.studies.results.reports import Table, table_html
from studio.studies.results.scores import Scored, hung_pairs, pair_scores
from studio.studies.storage.study_store import Study
from studio.studies.studies import Studies
from studio.ui.elements import show_remark
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER, QUEUED

TITLE = "What rewards say"
INTRO = (
    "Scores all pictures of the study in the background. Then: how often the picture that people chose has "
    "the higher score. A coin would be right in 50 %."
)
NO_PICTURES = "The example has no pictures to score. Rewards are held against votes of your own studies."
HIDDEN = (
    "The pictures can be scored now. What that says of people's choices is shown once the study is closed."
)
HEAD = ("reward", "predicts the choice, 95 % interval", "choices", "of them scored alike")
ORDER = ("reward", "and", "order of all pictures", "order within prompts")


@dataclass(frozen=True)
class Card:
    """Its components. `timer` runs while pictures are being scored."""

    rewards: gr.Dropdown
    start: gr.Button
    shown: gr.HTML
    timer: gr.Timer


def lay_out(core: Core) -> Card:
    """Make the components inside the current column."""
    with gr.Accordion(TITLE, open=False, elem_id="results-rewards"):
        gr.Markdown(INTRO)
        with gr.Row(equal_height=True):
            rewards = gr.Dropdown(
                offer_rewards(core.spec.name if core.spec else core.backbone_name, core.rewards.loading),
                multiselect=True,
                label="Rewards",
                info="Empty: those that are shown under pictures of the study's backbone",
                allow_custom_value=True,
                elem_id="results-rewards-names",
                scale=4,
            )
            start = gr.Button("Score the pictures", scale=1, min_width=140, elem_id="results-rewards-start")
        shown = gr.HTML("", elem_id="results-rewards-shown")
    return Card(rewards, start, shown, gr.Timer(1.5, active=False))


def wire(card: Card, filter: list[Any], refresh: gr.Button, core: Core, studies: Studies) -> None:
    """Connect it. `filter`: study, question, category, without flagged raters, unanimous pairs, look."""
    do = CardHandlers(core, studies)
    study, *others = filter
    asked, outputs = filter[:5], [card.shown, card.timer]
    gr.on(
        [study.change, refresh.click, *(field.input for field in others[:4])],
        guard(do.on_look),
        asked,
        outputs,
        **IN_ORDER,
    )
    card.timer.tick(guard(do.on_look), asked, outputs, **IN_ORDER, preprocess=False)
    card.start.click(guard(do.on_score), [*asked, card.rewards], outputs, **QUEUED)


class CardHandlers:
    """What the card's events call. Each asks for the organiser's rights itself."""

    def __init__(self, core: Core, studies: Studies) -> None:
        self._core, self._studies = core, studies

    def on_look(
        self,
        chosen: str | None,
        question: str | None,
        category: str | None,
        without: bool,
        consensus: int | None,
        request: gr.Request,
    ) -> list[Any]:
        """What is known, and whether to look again by itself."""
        if not chosen or not self._core.rights.may_organise(request):
            return ["", gr.Timer(active=False)]
        if self._studies.is_example(chosen):
            return [show_remark(NO_PICTURES), gr.Timer(active=False)]
        known = self._studies.store.find(chosen)
        if known is None:
            return ["", gr.Timer(active=False)]
        questions = [q.id for q in known.protocol.questions]
        asked = question if question in questions else questions[0]
        filter = Filter(asked, category or "", bool(without), consensus or None)
        busy = self._studies.scores.is_busy(known.id)
        return [draw_card(self._studies, known, filter), gr.Timer(active=busy)]

    def on_score(
        self,
        chosen: str | None,
        question: str | None,
        category: str | None,
        without: bool,
        consensus: int | None,
        names: list[str] | None,
        request: gr.Request,
    ) -> list[Any]:
        """Begin to score, and show how far it is."""
        self._core.rights.study_organisers_only(request)
        if not chosen:
            return [gr.skip(), gr.skip()]
        if self._studies.is_example(chosen):
            return [show_remark(NO_PICTURES), gr.Timer(active=False)]
        known = self._studies.store.get(chosen)
        wanted = list(names or ()) or self._usual(known)
        device = self._find_device()
        self._studies.scores.start(known.id, wanted, lambda name: self._core.rewards.load(name, device))
        return self.on_look(chosen, question, category, without, consensus, request)

    def _usual(self, study: Study) -> list[str]:
        backbones = {arm.backbone for arm in self._studies.store.arms(study.id)}
        return list(dict.fromkeys(name for b in sorted(backbones) for name in SHOWN_FOR.get(b, ())))

    def _find_device(self) -> str:
        """That of the loaded backbone."""
        backbone = self._core.host.backbone if self._core.host is not None else None
        return "cpu" if backbone is None else str(backbone.device)


def draw_card(studies: Studies, study: Study, filter: Filter) -> str:
    """What is known of the study's pictures, under one question and filter."""
    found = studies.scores.find(study.id)
    if found is None:
        return show_remark(HIDDEN) if study.hides_results else ""
    parts = [Markup(show_remark(_progress(found)))]
    if study.hides_results:
        return str(Markup("").join([*parts, Markup(show_remark(HIDDEN))]))
    if found.scores:
        verdict, table = predictions_table(studies, study, filter, found)
        parts += [Markup("<div class='lead'>{}</div>").format(verdict), table_html(table)]
    if found.agreements:
        rows = [[each.a, each.b, _order(each.overall), _order(each.within)] for each in found.agreements]
        parts.append(table_html((ORDER, rows)))
    return str(Markup("<div class='tables'>{}</div>").format(Markup("").join(parts)))


def predictions_table(studies: Studies, study: Study, filter: Filter, found: Scored) -> tuple[str, Table]:
    """A sentence, and one row a reward, the best first."""
    from calibri.analysis.comparison import predict

    votes = read_votes(study, studies.votes.rows(study.id), filter)
    said = predict(votes, pair_scores(hung_pairs(studies.store.pairs(study.id)), found.scores))
    rows = [
        [
            each.reward,
            str(each.rate),
            str(each.rate.n) if isinstance(each.rate, Rate) else "–",
            str(each.undecided),
        ]
        if isinstance(each.rate, Rate)
        else [each.reward, f"no data ({each.rate.reason})", "–", "–"]
        for each in said
    ]
    best = said[0]
    if isinstance(best.rate, NoData):
        return f"No choices to hold the scores against: {best.rate.reason}.", (HEAD, rows)
    if best.rate.verdict == "preferred":
        sentence = f"{best.reward} predicts people's choices best: {best.rate} of {best.rate.n}."
    else:
        sentence = (
            f"No reward is told apart from a coin; {best.reward} comes nearest: {best.rate} of {best.rate.n}."
        )
    return sentence, (HEAD, rows)


def _progress(found: Scored) -> str:
    lost = f" {count(found.missing, 'picture')} left out: missing or damaged." if found.missing else ""
    if found.error:
        return f"{found.error}{lost}"
    if found.now:
        return f"Scoring: {found.now}, {found.done} of {found.total} pictures.{lost}"
    return lost.strip()


def _order(value: Correlation | NoData) -> str:
    return f"no data ({value.reason})" if isinstance(value, NoData) else str(value)
