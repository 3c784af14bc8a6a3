"""Renders the pictures of a study in the background: resumable, and after other people's work."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from calibri.backbones.lora import read_uses
from calibri.errors import CalibriError, StudyError
from studio.machine.background import Background
from studio.machine.queue import Priority
from studio.studies.protocol import QUICK
from studio.studies.storage.picture_store import ImageStore
from studio.studies.storage.study_store import StudyArm, StudyPair, StudyStore

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.backbones.loading import Backbone
    from calibri.sampling.renderer import RenderRequest

log = logging.getLogger(__name__)

BATCH = 8
GOLD = "gold:"  # in front of the recipe of the picture that a gold picture is a copy of


@dataclass(frozen=True)
class RenderProgress:
    """How many pictures of a study are rendered. `seconds_left`: None while no speed is known."""

    phase: Literal["rendering", "done", "stopped", "failed"]
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    error: str = ""


class _Pictures:
    """The pictures that a study needs (`wanted`: recipe → arm, pair) and those that exist (`made`)."""

    def __init__(self, studies: StudyStore, images: ImageStore, study: str, backbone: Backbone) -> None:
        from calibri.calibration.artifact import Calibration

        self._studies, self._images = studies, images
        arms = {arm.id: arm for arm in studies.arms(study)}
        needed = next(iter(arms.values())).backbone
        if backbone.spec.name != needed:
            raise StudyError(
                f"This study renders {needed}, but {backbone.spec.name} is loaded. Load {needed} first."
            )
        self._calibrations = {
            a.id: Calibration.from_json(a.calibration) if a.calibration else None for a in arms.values()
        }
        self.wanted: dict[str, tuple[StudyArm, StudyPair]] = {}
        self._sides: dict[str, tuple[str, str]] = {}  # pair → recipes of x and y
        self._shows: defaultdict[str, list[str]] = defaultdict(list)  # recipe → the pairs that show it
        hung: dict[str, str] = {}  # recipe → the picture that a pair shows
        for pair in studies.pairs(study):
            if pair.kind == "repeat":
                continue  # has the pictures of the pair that it repeats
            x, y = arms[pair.arm_x], arms[pair.arm_y]
            first = x.recipe(backbone.fingerprint, pair.prompt, pair.seed)
            # The gold arm is a spoilt copy of the other side.
            spoilt = y.kind == "gold"
            second = GOLD + first if spoilt else y.recipe(backbone.fingerprint, pair.prompt, pair.seed)
            self._sides[pair.id] = (first, second)
            for recipe, arm, shown in ((first, x, pair.image_x), (second, y, pair.image_y)):
                self.wanted.setdefault(recipe, (arm, pair))
                self._shows[recipe].append(pair.id)
                if shown is not None:
                    hung[recipe] = shown
        found = studies.find_rendered(list(self.wanted))
        known = studies.get(study)
        if known.status != "draft":
            if hung and not found and known.protocol.preset != QUICK.preset:
                raise StudyError(
                    f"The pictures of this study were rendered by other weights than those of {needed} that "
                    "are loaded now. Load the same ones to render lost pictures again."
                )
            found |= hung  # what raters saw stays where it is whole
        self.made = {recipe: sha for recipe, sha in found.items() if images.is_whole(sha)}
        self.hang(self.made)

    def missing(self, *, gold: bool) -> list[str]:
        """Arms of one prompt come one after the other, so that they share a batch."""
        return [r for r in self.wanted if r not in self.made and r.startswith(GOLD) == gold]

    def request(self, recipe: str) -> RenderRequest:
        from calibri.sampling.renderer import RenderRequest

        arm, pair = self.wanted[recipe]
        return RenderRequest.of(
            pair.prompt,
            pair.seed,
            arm.steps,
            calibration=self._calibrations[arm.id],
            guidance=None if arm.guidance == 1.0 else arm.guidance,
            width=arm.width,
            height=arm.height,
            loras=read_uses(arm.loras),
            negative_prompt=arm.negative,
            embedded_guidance=arm.embedded,
        )

    def spoil(self, recipe: str) -> Image:
        """The picture of a gold recipe, from the one that it is a copy of."""
        return plainly_worse(self._images.open(self.made[recipe.removeprefix(GOLD)]))

    def keep(self, recipe: str, image: Image) -> None:
        arm, pair = self.wanted[recipe]
        sha256 = self.made[recipe] = self._images.put(image)
        self._images.view(sha256)  # made now, so that no rater waits for it
        self._studies.add_picture(recipe, sha256, arm, pair, image.size)

    def hang(self, recipes: Iterable[str]) -> None:
        """Give their pictures to the pairs that have both now."""
        touched = dict.fromkeys(pair for recipe in recipes for pair in self._shows[recipe])
        ready = [(p, *self._sides[p]) for p in touched if all(side in self.made for side in self._sides[p])]
        self._studies.hang([(pair, self.made[x], self.made[y]) for pair, x, y in ready])


class StudyRenders:
    """One piece of background work for each study. `host`: a ModelHost.

    `on_end(study)` is called when its pictures may have changed.
    """

    def __init__(
        self,
        host: Any,
        studies: StudyStore,
        images: ImageStore,
        on_end: Callable[[str], None] = lambda study: None,
    ) -> None:
        self._host, self._studies, self._images, self._on_end = host, studies, images, on_end
        self._lock = threading.Lock()
        self._progress: dict[str, RenderProgress] = {}
        self._stops: dict[str, threading.Event] = {}
        self._work: defaultdict[str, Background] = defaultdict(lambda: Background("render-study"))

    def progress(self, study: str) -> RenderProgress | None:
        """The state of this study's rendering; None where it was not started since the studio opened."""
        return self._progress.get(study)

    def start(self, study: str) -> None:
        """Render what is missing, in the background. Does nothing while that is under way."""
        with self._lock:
            work = self._work[study]
            if work.busy:
                return
            stop = self._stops[study] = threading.Event()
            self._progress[study] = RenderProgress("rendering")
            work.start(lambda: self._render_all(study, stop))

    def stop(self, study: str) -> None:
        """End after the batch under way. What is rendered stays."""
        if study in self._stops:
            self._stops[study].set()

    def wait(self, study: str, seconds: float = threading.TIMEOUT_MAX) -> RenderProgress | None:
        """Block until this study's rendering has ended, and return how."""
        if study in self._work:
            self._work[study].wait(seconds)
        return self.progress(study)

    def close(self) -> None:
        """Stop everything and wait for the batches under way."""
        for study, work in list(self._work.items()):
            self.stop(study)
            work.close()

    def _render_all(self, study: str, stop: threading.Event) -> None:
        last = RenderProgress("rendering")
        try:
            with self._host.reserve("the rendering of a study"):
                for done, total, left in self.run(study, stop.is_set):
                    last = self._progress[study] = RenderProgress("rendering", done, total, left)
            whole = last.done == last.total and not stop.is_set()
            last = replace(last, phase="done" if whole else "stopped", seconds_left=None)
        except CalibriError as error:
            last = replace(last, phase="stopped" if stop.is_set() else "failed", error=str(error))
        except Exception as error:
            log.exception("rendering the pictures of %s failed", study)
            last = replace(last, phase="failed", error=f"{type(error).__name__}: {error}")
        try:
            self._on_end(study)
        except CalibriError as error:
            log.info("the studio closes while a study is rendered: %s", error)
        self._progress[study] = last

    def run(
        self, study: str, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[int, int, float | None]]:
        """Render in the caller's thread; yields (pictures done, all, seconds left) after each batch.

        A picture whose recipe was rendered before, in any study, is not rendered again.
        """
        work = _Pictures(self._studies, self._images, study, self._host.wait_ready(cancel=stopped))
        total, before, began = len(work.wanted), len(work.made), time.monotonic()
        plain = work.missing(gold=False)
        yield before, total, None
        for start in range(0, len(plain), BATCH):
            if stopped():
                return
            batch = plain[start : start + BATCH]
            requests = [work.request(recipe) for recipe in batch]
            rendered = self._host.render(requests, priority=Priority.STUDY, label="a study", cancel=stopped)
            for recipe, picture in zip(batch, rendered):
                work.keep(recipe, picture.image)
            work.hang(batch)
            done = len(work.made)
            yield done, total, (total - done) * (time.monotonic() - began) / (done - before)
        gold = work.missing(gold=True)
        for recipe in gold:
            work.keep(recipe, work.spoil(recipe))
        work.hang(gold)
        yield len(work.made), total, 0.0


def plainly_worse(image: Image) -> Image:
    """The picture blurred and faded, so that it is plainly the worse one."""
    from PIL import Image as pil
    from PIL import ImageFilter

    blurred = image.filter(ImageFilter.GaussianBlur(max(1.5, image.width / 24)))
    return pil.blend(blurred, pil.new("RGB", image.size, (190, 190, 190)), 0.55)
