"""A run of quick votes: one pair after another, the next one rendered while a person looks at this one.

One pair is rendered ahead, never more, after what people wait for, and none for who has left. No Gradio.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from calibri.errors import CalibriError, RenderCancelled, StudyError
from calibri.prompts import name_set, prompt_set
from studio.core import Core
from studio.quick_vote.votes import Contender, Offer, Reveal, choose_two, name_arm, offer, vote
from studio.rendering.arms import WORDS, Arm, Choice, resolve_arms
from studio.rendering.asks import Ask, dice
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Comparison, Shot, guidance_of, shoot_all
from studio.studies.planning import read_prompts
from studio.studies.storage.study_store import StudyArm
from studio.studies.studies import Studies

log = logging.getLogger(__name__)

LAST, OWN = "last", "own"  # whose arms: those of the visitor's last comparison, or the base and chosen ones
WORK = "quick"  # what a visitor has under way
MOST_ARMS = 24
MOST_RUNS = 2  # of one visitor: two tabs
PATIENCE = 15.0  # seconds without a sign of the page, after which nothing is rendered ahead
OVER = "Press Start to go on."


@dataclass(frozen=True)
class Pair:
    """Two rendered arms on one prompt and seed. `places`: of the arms in their run."""

    places: tuple[int, int]
    shots: list[Shot]

    @property
    def ask(self) -> Ask:
        return self.shots[0].ask

    @property
    def size(self) -> int:
        """Bytes of its pictures."""
        images = [shot.image for shot in self.shots if shot.image is not None]
        return sum(3 * image.width * image.height for image in images)


@dataclass(eq=False)
class Ahead:
    """A pair that is rendered before it is asked for. `begun`: its first step is done."""

    begun: bool = False
    called_off: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    pair: Pair | None = None

    def note_step(self, *_: Any, **__: Any) -> None:
        self.begun = True


class Run:
    """What one press on Start began. Safe to call from any thread.

    `arms`: each with how it is asked for; prompt and seed are drawn for each pair. `wins`: label → votes for
    it; `met`: label → votes in which it was shown. `clock`: seconds.
    """

    def __init__(
        self,
        visitor: str,
        backbone: str,
        loads: int,
        arms: Sequence[tuple[Arm, Ask]],
        prompts: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.visitor, self.backbone, self.loads, self.arms = visitor, backbone, loads, list(arms)
        self.contenders = [describe(Shot(arm, ask)) for arm, ask in arms]
        self.named = [name_arm("", backbone, arm) for arm in self.contenders]
        self.wins: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()  # of those that prefer no side
        self.on_screen: tuple[int, ...] = ()
        self._clock, self._seen = clock, clock()
        self._prompts, self._bag = list(prompts), list[str]()
        self._random = random.SystemRandom()
        self._lock = threading.Lock()
        self._ahead: Ahead | None = None
        self._over = False

    @property
    def votes(self) -> int:
        return sum(self.met.values()) // 2

    @property
    def size(self) -> int:
        """Bytes of the pair that is ready."""
        ahead = self._ahead
        return ahead.pair.size if ahead is not None and ahead.pair is not None else 0

    def draw_prompt(self) -> str:
        """The next prompt: all come once, in an order by chance, before one comes again."""
        with self._lock:
            if not self._bag:
                self._bag = self._random.sample(self._prompts, len(self._prompts))
            return self._bag.pop()

    def count(self, told: Reveal) -> None:
        """Note a vote for the bar of wins."""
        with self._lock:
            self.met.update((told.left, told.right))
            (self.wins if told.winner in (told.left, told.right) else self.answers)[told.winner] += 1

    # the pair ahead

    def note_seen(self) -> None:
        """The page is still open."""
        self._seen = self._clock()

    @property
    def is_left(self) -> bool:
        """Whether nobody waits for more: stopped, or the page was closed."""
        return self._over or self._clock() - self._seen > PATIENCE

    def end(self) -> None:
        """Render nothing more ahead, and forget what was."""
        with self._lock:
            self._over = True
            ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.called_off.set()

    def begin_ahead(self) -> Ahead | None:
        """The place for the next pair; None where there is one already, or nobody would look at it."""
        with self._lock:
            if self._ahead is not None or self.is_left:
                return None
            self._ahead = Ahead()
            return self._ahead

    def take_ahead(self, cancelled: Callable[[], bool]) -> Pair | None:
        """The pair that was rendered ahead: waits for one that has begun. None where the caller must render:
        what only waits for the model gives way, as a person waits in its place now."""
        with self._lock:
            ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        if not ahead.begun:
            ahead.called_off.set()
        while ahead.begun and not ahead.ended.wait(0.05):
            if cancelled():
                ahead.called_off.set()
                raise RenderCancelled("Stopped.")
        return ahead.pair


@dataclass
class QuickPlace:
    """A visitor's runs, the newest last: one for each tab."""

    runs: OrderedDict[str, Run] = field(default_factory=OrderedDict)

    @property
    def size(self) -> int:
        """Bytes of the pictures that are ready."""
        return sum(run.size for run in list(self.runs.values()))

    def add(self, run: Run) -> None:
        self.runs[run.id] = run
        while len(self.runs) > MOST_RUNS:
            self.runs.popitem(last=False)[1].end()

    def end(self, run_id: object) -> Run | None:
        """End this run and forget it. Returns it, None for one that there is not."""
        run = self.runs.pop(run_id, None) if isinstance(run_id, str) else None
        if run is not None:
            run.end()
        return run


def find_run(core: Core, visitor: object, run_id: object) -> Run | None:
    """The run of this id; None where it has ended."""
    runs = core.visitors.of(visitor).place(QuickPlace).runs
    return runs.get(run_id) if isinstance(run_id, str) else None


# what a run is of


def find_last_comparison(core: Core, visitor: object) -> Comparison | None:
    """The visitor's last comparison with at least two rendered arms."""
    history = core.visitors.of(visitor).place(SharedPlace).history
    return next((c for c in history if sum(s.image is not None for s in c.shots) > 1), None)


def choose_arms(
    core: Core, visitor: str, whose: str, picks: Sequence[str], ask: Ask
) -> list[tuple[Arm, Ask]]:
    """The arms of a run, each with how it is asked for. `picks`: choices of `rendering.arms`; the base is
    always there too.

    Raises StudyError where fewer than two can be rendered, or one that was picked cannot.
    """
    if whose == LAST:
        last = find_last_comparison(core, visitor)
        if last is None:
            raise StudyError("Compare two arms first on the page Compare, or choose the arms here.")
        return [(shot.arm, shot.ask) for shot in last.shots if not shot.arm.missing]
    wanted = [pick for pick in dict.fromkeys(picks) if pick != "base"]
    if not wanted:
        raise StudyError("Choose at least one calibration: the base is its opponent.")
    if len(wanted) >= MOST_ARMS:
        raise StudyError(f"Expected at most {MOST_ARMS - 1} calibrations, got {len(wanted)}.")
    choices = [Choice("base"), *(Choice(pick) for pick in wanted)]
    arms = resolve_arms(core, choices, core.visitors.of(visitor))
    missing = next((arm.missing for arm in arms if arm.missing), "")
    if missing:
        raise StudyError(missing)
    return [(arm, ask) for arm in arms]


def list_run_prompts(backbone: str, typed: str) -> tuple[str, ...]:
    """The prompts that were typed, one on each line; where there are none, those that suit the backbone and
    that no search has seen. Raises StudyError for what is no prompt."""
    if typed.strip():
        return tuple(prompt.text for prompt in read_prompts(typed))
    return prompt_set(name_set(backbone), "held-out")


def start(
    core: Core,
    studies: Studies,
    visitor: str,
    *,
    whose: str,
    picks: Sequence[str],
    typed: str,
    steps: object,
    guidance: object = 1.0,
) -> Run:
    """Begin a run. Raises CalibriError for what cannot be voted on."""
    with core.visitors.of(visitor).working(WORK) as cancelled:
        core.host.wait_ready(cancel=cancelled)
    status = core.host.status
    prompts = list_run_prompts(status.backbone, typed)
    usual = Ask.read(prompts[0], 0, steps, guidance)
    arms = choose_arms(core, visitor, whose, picks, usual)
    run = Run(visitor, status.backbone, status.loads, arms, prompts)
    choose_two(studies, run.backbone, run.contenders)  # what cannot meet is told before it is rendered
    core.visitors.of(visitor).place(QuickPlace).add(run)
    return run


# one pair after another


def describe(shot: Shot) -> StudyArm:
    """What a vote on a shot is on, as far as it is known before the vote."""
    arm, ask = shot.arm, shot.ask
    return StudyArm(
        id="",
        study="",
        backbone="",
        label=arm.calibration.title if arm.calibration else WORDS[arm.kind],
        kind=arm.kind,
        steps=ask.steps,
        guidance=guidance_of(shot),
        calibration=arm.calibration.to_json() if arm.calibration else None,
        calibration_hash=arm.calibration.hash if arm.calibration else None,
        width=ask.width,
        height=ask.height,
        loras=ask.loras,
        negative=ask.negative,
        embedded=ask.embedded,
    )


def render_pair(core: Core, studies: Studies, run: Run, **calls: Any) -> Pair:
    """The next pair of a run, on a prompt and a seed of its own. `calls`: of `shoot_all`."""
    places = choose_two(studies, run.backbone, run.contenders, run.on_screen)
    prompt, seed = Ask.read(run.draw_prompt(), 0, 1).prompt, dice()
    wanted = [(run.arms[i][0], replace(run.arms[i][1], prompt=prompt, seed=seed)) for i in places]
    return Pair(places, shoot_all(core, wanted, score=False, **calls))


def prepare(core: Core, studies: Studies, run: Run) -> None:
    """Render the next pair ahead, once what people wait for is done. Does nothing where there is one, where
    nobody would look at it, and where each picture is lent a GPU out of the visitor's own allowance."""
    if core.host.is_lent:
        return
    ahead = run.begin_ahead()
    if ahead is None:
        return

    def cancelled() -> bool:
        return ahead.called_off.is_set() or run.is_left

    try:
        ahead.pair = render_pair(core, studies, run, ahead=True, cancel=cancelled, on_step=ahead.note_step)
    except CalibriError as error:  # whoever asks for the pair then is told
        log.debug("nothing was rendered ahead: %s", error)
    finally:
        ahead.ended.set()
    core.visitors.trim(run.visitor)


def show_next(core: Core, studies: Studies, run: Run, **calls: Any) -> tuple[Ask, Offer]:
    """What the next pair is of, and its pictures: those that are ready, or else rendered now.

    Raises StudyError where another backbone was loaded meanwhile.
    """
    with core.visitors.of(run.visitor).working(WORK) as cancelled:
        core.host.wait_ready(cancel=cancelled)
        if (core.host.status.backbone, core.host.status.loads) != (run.backbone, run.loads):
            raise StudyError("Another backbone was loaded meanwhile. Press Start to vote on its pictures.")
        pair = run.take_ahead(cancelled)
        if pair is None:
            pair = render_pair(core, studies, run, cancel=cancelled, **calls)
    run.on_screen = pair.places
    contenders = [Contender(describe(shot), shot.image) for shot in pair.shots if shot.image is not None]
    return pair.ask, offer(studies, run.visitor, run.backbone, pair.ask.prompt, pair.ask.seed, contenders)


def cast(studies: Studies, visitor: str, run: Run | None, study: str, token: str, side: str) -> Reveal:
    """Take the vote on the pair on screen, and tell which arm was where. Raises Refused as `vote` does."""
    told = vote(studies, visitor, study, token, side)
    if run is not None:
        run.count(told)
    return told
