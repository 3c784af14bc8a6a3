"""The loop of a search: yields records; the caller owns threads, files beside the run folder, and screens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibri.errors import CalibriError, JournalError
from calibri.files import write_whole
from calibri.rewards.scoring import LocalScorer, Progress, Scorer, SearchStopped
from calibri.rewards.sources import name_source
from calibri.search.config import Budget, SearchConfig
from calibri.search.counting import check_images, least_images
from calibri.search.fitted import point_reached
from calibri.search.front import front_points
from calibri.search.front_file import add_front, judge_points
from calibri.search.journal import TAIL, RunFolder
from calibri.search.judgement import Bench, Judgement, Shipment, ship
from calibri.search.objective import Objective
from calibri.search.pairs import PairSource
from calibri.search.progress import SearchProgress
from calibri.search.provenance import moved_revisions, now, versions
from calibri.search.records import (
    BaseRecord,
    EventRecord,
    GenerationRecord,
    Record,
    ResultRecord,
    SessionRecord,
    ValidationRecord,
    pack,
)
from calibri.search.space import SearchSpace
from calibri.search.spot_pictures import paint_spots
from calibri.search.stopping import STOPPED, next_validation, paper_converged, validation_converged
from calibri.search.strategy import Strategy, make_strategy
from calibri.search.validation import validate

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.rewards.base import Reward

DEFAULT_BUDGET = Budget(images=4000)


def run_search(
    config: SearchConfig | None,
    folder: str | Path,
    *,
    backbone: Backbone,
    rewards: Mapping[str, Reward],
    budget: Budget | None = None,
    stop: Callable[[], bool] | None = None,
    abandon: Callable[[], bool] | None = None,
    turn: Callable[[], AbstractContextManager] = nullcontext,
    progress: Progress | None = None,
    scorer: Scorer | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Record]:
    """Searches, or goes on where the run in `folder` stopped; yields each new record once it is on the disk.

    `config`: None resumes what the folder holds. `rewards`: by name, all that the config optimises and
    judges with. `budget`: of the whole run, earlier sessions included; None takes that of the last session.
    `stop`: asked between batches; yes ends the search, which still judges and keeps what it has. `abandon`:
    asked between batches of the judgement; yes skips it. `turn`: context manager held while a batch
    renders. `progress(done, total)`: images of the generation under way. `scorer`: renders and scores
    elsewhere. `clock`: seconds; stop it during a pause to keep pauses out of the record.

    The last record is a ResultRecord. Raises SearchError, JournalError, and what renderer and rewards
    raise; the run can be resumed after any of them.
    """
    with RunFolder(folder, config) as run:
        layout = backbone.layout(run.config.granularity)
        if scorer is None:
            from calibri.sampling.renderer import Renderer

            renderer = Renderer(backbone, batch_size=run.config.batch_size)
            scorer = LocalScorer(renderer, rewards, run.config.batch_size, turn)
        objective = Objective(run.config, layout, scorer, progress=progress)
        yield from _Search(run, objective, backbone, budget, stop, abandon, clock).records()


class _Search:
    """One session of a run."""

    def __init__(
        self,
        run: RunFolder,
        objective: Objective,
        backbone: Backbone,
        budget: Budget | None,
        stop: Callable[[], bool] | None,
        abandon: Callable[[], bool] | None,
        clock: Callable[[], float],
    ) -> None:
        self.run = run
        self.config = run.config
        self.objective = objective
        self.backbone = backbone.spec.name
        self.fingerprint = backbone.fingerprint
        self.loras = backbone.loras.about(backbone.loras.default)
        self.budget = budget or DEFAULT_BUDGET
        self._given = budget is not None
        self.stop = stop or (lambda: False)
        self.abandon = abandon
        self.objective.stop = self.stop
        self.source = PairSource(self.config)
        self.revisions = dict(getattr(objective.scorer, "revisions", {}))
        infos = getattr(objective.scorer, "infos", {})
        self.sources = {name: name_source(info.source) for name, info in infos.items()}
        self.space: SearchSpace = objective.space
        settings = self.space.settings(self.config)
        self._start, self._steps = settings.start, settings.steps
        self.strategy: Strategy = make_strategy(self.config.optimizer, settings)
        self.progress = SearchProgress(self.config)
        self._seconds_before = 0.0
        self._clock = clock
        self._began = clock()

    @property
    def images(self) -> int:
        """Rendered by this run so far."""
        return self.progress.images

    @property
    def seconds(self) -> float:
        """Used by this run so far, all sessions together."""
        return self._seconds_before + self._clock() - self._began

    # ---- the session

    def records(self) -> Iterator[Record]:
        self._replay(list(self.run.records))
        if (last := self._already_over()) is not None:
            yield last
            return
        if self.progress.base is None:
            check_images(self.budget.images, *least_images(self.config, len(self.objective.layout.names)))
        sessions = [record for record in self.run.records if isinstance(record, SessionRecord)]
        moved = moved_revisions(sessions, self.revisions)
        yield self._keep(self._session())
        if moved:
            yield self._keep(EventRecord(time=now(), text=moved))
        if self.run.repaired:
            text = f"A torn last line of {self.run.repaired} bytes was cut off the journal."
            yield self._keep(EventRecord(time=now(), text=text))
        if self.progress.generations:
            yield self._keep(
                EventRecord(time=now(), text=f"Resumed after generation {self.strategy.generation}.")
            )
        try:
            if self.progress.base is None:
                yield self._keep(self._measure_base())
            while (reason := self._reason_to_stop()) is None:
                if self._validation_due() and self._validation_fits():
                    yield self._keep(self._validate())
                    self._write_tail()
                else:
                    yield self._keep(self._generation())
        except SearchStopped:
            reason = STOPPED
        yield from self._finish(reason)

    def _keep(self, record: Record) -> Record:
        self.run.append(record)
        self._take(record)
        return record

    def _take(self, record: Record) -> None:
        """Updates what this session knows from a record, new or replayed."""
        self.progress.take(record)
        match record:
            case BaseRecord():
                self.objective.use_base(record)
            case GenerationRecord():
                self.objective.use_generation(record)

    def _replay(self, earlier: list[Record]) -> None:
        """Brings the optimiser to where the journal ends: the same seed and scores give the same
        candidates. Raises JournalError where they would not.
        """
        for record in earlier:
            if isinstance(record, SessionRecord):
                self._check_fingerprint(record.fingerprint)
            if isinstance(record, GenerationRecord):
                asked = self.strategy.ask()
                stored = record.candidate_array()
                if asked.shape != stored.shape or not np.allclose(asked, stored, rtol=0, atol=1e-9):
                    raise JournalError(
                        f"generation {record.generation} cannot be replayed here: the optimiser asks "
                        "for other candidates than the journal holds, so its version must have changed"
                    )
                self.strategy.tell(record.scores)
            self._take(record)
        if not self._given:
            self.budget = self.progress.budget or DEFAULT_BUDGET
        self._seconds_before = self.progress.seconds
        self._began = self._clock()

    def _check_fingerprint(self, known: str) -> None:
        if known and known != self.fingerprint:
            raise JournalError(
                f"this run was made with another backbone (fingerprint {known[:12]}…, "
                f"now {self.fingerprint[:12]}…); its scores would not compare"
            )

    def _already_over(self) -> ResultRecord | None:
        """The last result, if this budget allows nothing more."""
        last = self.progress.result
        if last is None or not self.progress.over or last.verdict == "not judged":
            return None
        return last if self._limit_reached() else None

    def _session(self) -> SessionRecord:
        return SessionRecord(
            time=now(),
            pid=os.getpid(),
            host=socket.gethostname(),
            generation=self.strategy.generation,
            images_limit=self.budget.images,
            minutes_limit=self.budget.minutes,
            generations_limit=self.budget.generations,
            versions=versions(),
            fingerprint=self.fingerprint,
            labels=self.space.labels,
            rewards=self.revisions,
            sources=self.sources,
        )

    # ---- the parts of the loop

    def _measure_base(self) -> BaseRecord:
        raw, images = self.objective.measure_base()
        return self.objective.base_record(raw, images=self.images + images, seconds=self.seconds)

    def _generation(self) -> GenerationRecord:
        number = self.strategy.generation
        bucket = self.source.bucket(number)
        candidates = self.strategy.ask()
        scores = self.objective.evaluate(candidates, bucket)
        mean_rate = float(getattr(self.strategy, "mean_rate", 1.0))
        self.strategy.tell(scores.told)
        record = GenerationRecord(
            generation=number,
            images=self.images + scores.images,
            seconds=self.seconds,
            bucket=bucket,
            pairs=[self.source.pair(i) for i in bucket],
            candidates=pack(candidates),
            scores=scores.told.tolist(),
            objective=scores.objective.tolist(),
            rewards=dict(zip(self.objective.names, scores.rewards.T.tolist(), strict=True)),
            base_scores=scores.base.tolist(),
            bucket_mean=scores.mean,
            best=float(scores.objective.max()),
            sigma=self.strategy.sigma,
            axis_ratio=self.strategy.axis_ratio,
            mean_rate=mean_rate,
            mean=self.strategy.mean.tolist(),
            spread=self.strategy.spread.tolist(),
        )
        if self.config.point == "tail":
            return record
        point = point_reached([*self.run.generations(), record], self.config.tail, self._start, self._steps)
        return record.model_copy(update={"point": point.tolist()})

    def _validation_due(self) -> bool:
        config = self.config
        if not config.validation_pairs or not config.validation_prompts:
            return False
        done = self.progress.validations
        last = done[-1].images if done else 0
        due = next_validation(
            last, config.validation_pairs, config.validation_spacing, config.validation_share
        )
        return self.images >= due

    def _validate(self) -> ValidationRecord:
        return validate(
            self.objective,
            self.progress.validations,
            self.point(),
            generation=self.strategy.generation,
            images=self.images,
            clock=lambda: self.seconds,
        )

    def _reason_to_stop(self) -> str | None:
        if self.stop():
            raise SearchStopped("stopped between two generations")
        if self.config.stop_on_fall and self.progress.falls and self._fresh_validation():
            return f"a judge fell: {self.progress.falls[0].text}"
        if (limit := self._limit_reached()) is not None:
            return limit
        if self.config.convergence == "validation" and self._fresh_validation():
            assert self.progress.base is not None
            return validation_converged(self.progress.validations, self.progress.base.total_spread)
        if self.config.convergence == "paper" and (reason := paper_converged(self.progress.generations)):
            return reason
        return self.strategy.reason_to_stop()

    def _limit_reached(self) -> str | None:
        """Which limit allows no further generation, in words."""
        bucket = self.source.bucket(self.strategy.generation)
        cost = self.objective.count_generation(self.strategy.popsize, bucket)
        done = {"images": self.images, "generations": self.strategy.generation}
        return self.budget.reason_to_stop(seconds=self.seconds, cost=cost, **done)

    def _validation_fits(self) -> bool:
        cost = self.config.validation_pairs * (1 if self.progress.validations else 2)
        if not self.progress.generations:  # which must fit behind it: without one nothing was searched
            cost += self.objective.count_generation(self.strategy.popsize, self.source.bucket(0))
        return self.budget.images is None or self.images + cost <= self.budget.images

    def _fresh_validation(self) -> bool:
        """Whether the last validation is of this generation, and no session has ended on it."""
        now, done, result = self.strategy.generation, self.progress.validations, self.progress.result
        over = result is not None and result.generation == now
        return bool(done) and done[-1].generation == now and not over

    # ---- the end

    def point(self) -> np.ndarray:
        """What would be shipped now, (n,): the tail average of the means or the fitted point, or the start
        before the first generation.
        """
        return self.progress.point() if self.progress.generations else self.strategy.mean

    def _shipment(self, reason: str) -> Shipment:
        return Shipment(
            config=self.config,
            backbone=self.backbone,
            fingerprint=self.fingerprint,
            space=self.space,
            vector=self.point(),
            generation=self.strategy.generation,
            images=self.images,
            seconds=self.seconds,
            reason=reason,
            revisions=self.revisions,
            sources=self.sources,
            loras=self.loras,
        )

    def _write_tail(self) -> None:
        """Saves the point reached, unjudged: it survives whatever happens next."""
        calibration = self._shipment("the search goes on").calibration("not judged", {})
        write_whole(self.run.folder / TAIL, calibration.to_json(), durable=True)

    def _finish(self, reason: str) -> Iterator[Record]:
        self._write_tail()
        shipment = self._shipment(reason)
        judgement = None
        self.objective.stop = self.abandon
        if self.progress.generations and self.config.held_out_pairs >= 2 and self.config.held_out_prompts:
            bench = Bench(self.objective)
            try:
                judgement = bench.judge(shipment.vector)
                if self.config.front:
                    yield from self._judge_front(bench, judgement)
            except SearchStopped:
                yield self._keep(EventRecord(time=now(), text="The final judgement was skipped."))
        result = ship(shipment, judgement, self.run.folder, now())
        if event := self._paint_spots(shipment, judgement):
            yield self._keep(event)
        if self.config.front:
            result = add_front(result, self.progress.points, self.progress.base, shipment, self.run.folder)
        yield self._keep(result)

    def _paint_spots(self, shipment: Shipment, judgement: Judgement | None) -> EventRecord | None:
        """The pictures of blind spots. What goes wrong with them costs no result."""
        if judgement is None or (self.abandon is not None and self.abandon()):
            return None
        found = shipment.calibration("", {})
        try:
            paint_spots(self.objective, judgement.spots, found, self.run.folder)
        except CalibriError as error:
            return EventRecord(time=now(), text=f"The pictures of blind spots were not made: {error}")
        return None

    def _judge_front(self, bench: Bench, equal: Judgement) -> Iterator[Record]:
        """A record for each point of the front that was not judged before."""
        assert self.progress.base is not None
        generations = list(self.run.generations())
        points = front_points(
            self.config, self.progress.base, generations, self._start, self._steps, self.point()
        )
        known = list(self.progress.points)
        for record in judge_points(bench, points, known, equal, self.strategy.generation):
            yield self._keep(record)
