"""A real search of two minutes, for somebody who has none yet: what it is, and its pictures as they get
better."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from calibri.errors import SearchError
from calibri.search.config import Budget
from studio.compare import form as compare_form
from studio.compare.comparison import compare
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.offers import find_need
from studio.rendering.arms import NOTHING, Choice
from studio.rendering.places import SharedPlace
from studio.search.form import Order, core_usual, read_page
from studio.search.jobs import Searches
from studio.search.status import ALIVE, Seen

if TYPE_CHECKING:
    from PIL.Image import Image

    from studio.rendering.shots import Calls, Comparison
    from studio.search.filmstrip import Strip

TITLE = "Found in two minutes"
MINUTES = 1.6  # of search; the rest of the two goes into the judgement
HELD_OUT, VALIDATED = 32, 16  # pairs
#: On tabletop. In some hundred pictures a search for align as well is not told apart from the base.
QUICK_REWARDS = ("tabletop-quality", "tabletop-keep")
MOST_FRAMES = 8  # pictures of one search that are kept; the first one stays
MOST_RUNS = 12


def order_quick(core: Core, sweeps: Sweeps, visitor: object) -> Order:
    """The search of two minutes on the loaded backbone. Raises SearchError where it has no reward here."""
    backbone = core.host.wait_ready()
    usual = core_usual(core)
    rewards = list(QUICK_REWARDS) if backbone.spec.name == "tabletop" else [str(t) for t in usual["rewards"]]
    missing = [need.words for need in map(partial(_need, core), rewards) if not need.there or need.missing]
    if not rewards or missing:
        why = f" ({'; '.join(missing)})" if missing else ""
        raise SearchError(
            f"Expected a reward for {backbone.spec.name} on this machine, got none{why}. Choose one on the "
            "page Search, or load tabletop, whose rewards come along."
        )
    typed = usual | {
        "title": TITLE,
        "rewards": rewards,
        "minutes": MINUTES,
        "judges": [name for name in usual["judges"] if not _need(core, name).missing],
        "held_out_pairs": HELD_OUT,
        "validation_pairs": VALIDATED,
        "convergence": "none",
        "seed": 0,
    }
    made = read_page(core, sweeps, visitor, typed)
    return Order(made.config, Budget(minutes=MINUTES), TITLE)


def _need(core: Core, term: str) -> Any:
    return find_need(term.partition(":")[0], core.rewards.loading)


def find_alive(searches: Searches) -> Seen | None:
    """The search of two minutes that is under way."""
    return next(
        (s for s in searches.survey().values() if s.run.note.title == TITLE and s.status.state in ALIVE), None
    )


def start_quick(core: Core, searches: Searches, sweeps: Sweeps, visitor: object, by: str = "") -> str:
    """Start one, or join the one that is under way. Returns its id. Raises SearchError."""
    alive = find_alive(searches)
    if alive is not None:
        return alive.run.id
    order = order_quick(core, sweeps, visitor)
    return searches.start(order.config, order.budget, order.title, by=by)


class Growth:
    """The pictures of the point reached as searches went on: run → (images used, picture), the first
    prompt of its strips. Safe to call from any thread."""

    def __init__(self) -> None:
        self._frames: OrderedDict[str, list[tuple[int, Image]]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, run_id: str, strip: Strip | None) -> list[tuple[int, Image]]:
        """What there is of this run, the strip included, the oldest first."""
        with self._lock:
            frames = self._frames.setdefault(run_id, [])
            if strip is not None and (not frames or frames[-1][0] < strip.images):
                frames.append((strip.images, strip.now[0]))
                if len(frames) > MOST_FRAMES:
                    frames.pop(1)
            while len(self._frames) > MOST_RUNS:
                self._frames.popitem(last=False)
            return list(frames)


def compare_found(
    core: Core, searches: Searches, visitor: object, run_id: str, **calls: Unpack[Calls]
) -> Comparison:
    """Render base and what the search found beside one another, and put them first in the visitor's history.

    Raises SearchError before its first generation, and what rendering raises.
    """
    run = searches.store.get(run_id)
    found = run.calibration(TITLE)
    choice = core.visitors.place(visitor, SharedPlace).borrow(found, "a search")
    config = run.config
    form = compare_form.Form(
        prompt=(config.validation_prompts or config.prompts)[0],
        seed=1,
        steps=config.steps,
        guidance=1.0,
        width=config.width,
        height=config.height,
        arms=(Choice("base", guidance=config.guidance), Choice(choice), Choice(NOTHING)),
    )
    return compare(core, visitor, form, **calls)
