"""Renders the pictures of a study in the background: resumable, content-addressed, between other people's
work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from calibri.errors import CalibriError, StudyError
from studio.studies.storage.picture_store import ImageStore
from studio.studies.storage.study_store import StudyArm, StudyPair, StudyStore

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

Render = Callable[..., list[Any]]
BATCH = 8


@dataclass(frozen=True)
class RenderProgress:
    """How far the pictures of one study are. `seconds_left`: None while no speed is known."""

    phase: Literal["rendering", "done", "stopped", "failed"]
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    error: str = ""


class StudyRenders:
    """One background thread a study. `host` is a ModelHost: it has `wait_ready`, `render` and `reserved`."""

    def __init__(self, host: Any, studies: StudyStore, images: ImageStore) -> None:
        self._host, self._studies, self._images = host, studies, images
        self._lock = threading.Lock()
        self._progress: dict[str, RenderProgress] = {}
        self._stops: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}

    def progress(self, study: str) -> RenderProgress | None:
        """What is known of this study's rendering since the studio started."""
        return self._progress.get(study)

    def start(self, study: str) -> None:
        """Render what is missing, in the background. Does nothing while that is under way."""
        with self._lock:
            if study in self._threads and self._threads[study].is_alive():
                return
            self._stops[study] = threading.Event()
            self._progress[study] = RenderProgress("rendering")
            thread = threading.Thread(target=self._work, args=(study,), name="render-study", daemon=True)
            self._threads[study] = thread
            thread.start()

    def stop(self, study: str) -> None:
        """End after the batch under way. What is rendered stays."""
        if study in self._stops:
            self._stops[study].set()

    def wait(self, study: str, seconds: float | None = None) -> RenderProgress | None:
        """Block until this study's rendering ended, and return how."""
        if study in self._threads:
            self._threads[study].join(seconds)
        return self.progress(study)

    def close(self) -> None:
        """Stop everything and wait for the batches under way."""
        for study, thread in list(self._threads.items()):
            self.stop(study)
            thread.join(30)

    def _work(self, study: str) -> None:
        stop = self._stops[study]
        try:
            with self._host.reserve("the rendering of a study"):
                for done, total, left in self.run(study, stop.is_set):
                    self._progress[study] = RenderProgress("rendering", done, total, left)
            last = self._progress[study]
            whole = last.done == last.total and not stop.is_set()
            self._progress[study] = replace(last, phase="done" if whole else "stopped", seconds_left=None)
        except CalibriError as error:
            phase: Any = "stopped" if stop.is_set() else "failed"
            self._progress[study] = replace(self._progress[study], phase=phase, error=str(error))
        except Exception as error:
            log.exception("rendering the pictures of %s failed", study)
            self._progress[study] = replace(
                self._progress[study], phase="failed", error=f"{type(error).__name__}: {error}"
            )

    def run(
        self, study: str, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[int, int, float | None]]:
        """Render in the caller's thread; yields (pictures done, all, seconds left) after each batch.

        A picture whose recipe was rendered before, in whatever study, is not rendered again.
        """
        from calibri.calibration.artifact import Calibration
        from calibri.sampling.renderer import RenderRequest
        from studio.machine.queue import Priority

        backbone = self._host.wait_ready(cancel=stopped)
        arms = {arm.id: arm for arm in self._studies.arms(study)}
        needed = next(iter(arms.values())).backbone
        if backbone.spec.name != needed:
            raise StudyError(
                f"This study renders {needed}, but {backbone.spec.name} is loaded. Load {needed} first."
            )
        pairs = [p for p in self._studies.pairs(study) if p.kind != "repeat"]
        wanted: dict[str, tuple[StudyArm, StudyPair]] = {}
        for pair in pairs:
            for arm in (arms[pair.arm_x], arms[pair.arm_y]):
                wanted.setdefault(self._recipe(arm, pair, arms, backbone.fingerprint), (arm, pair))
        made = {r: s for r, s in self._studies.rendered(list(wanted)).items() if self._images.has(s)}
        # Arms of one prompt lie side by side, so that they share a batch; gold copies need their original
        # first.
        missing = [r for r in wanted if r not in made]
        sides = {
            p.id: tuple(self._recipe(arms[a], p, arms, backbone.fingerprint) for a in (p.arm_x, p.arm_y))
            for p in pairs
        }
        shows: defaultdict[str, list[StudyPair]] = defaultdict(list)  # recipe → the pairs that show it
        for pair in pairs:
            for recipe in sides[pair.id]:
                shows[recipe].append(pair)

        def hang(recipes: Iterable[str]) -> None:
            """Give their pictures to the pairs that have both now."""
            ready = {p.id: p for r in recipes for p in shows[r] if all(s in made for s in sides[p.id])}
            self._studies.hang([(p, made[sides[p][0]], made[sides[p][1]]) for p in ready])

        hang(made)
        plain = [r for r in missing if wanted[r][0].kind != "gold"]
        calibrations = {
            a.id: Calibration.from_json(a.calibration) if a.calibration else None for a in arms.values()
        }
        began, before = time.monotonic(), len(made)
        yield len(made), len(wanted), None
        for start in range(0, len(plain), BATCH):
            if stopped():
                return
            batch = plain[start : start + BATCH]
            requests = []
            for recipe in batch:
                arm, pair = wanted[recipe]
                requests.append(
                    RenderRequest.of(
                        pair.prompt,
                        pair.seed,
                        arm.steps,
                        calibration=calibrations[arm.id],
                        guidance=None if arm.guidance == 1.0 else arm.guidance,
                        width=arm.width,
                        height=arm.height,
                    )
                )
            rendered = self._host.render(requests, priority=Priority.STUDY, label="a study", cancel=stopped)
            for recipe, picture in zip(batch, rendered):
                made[recipe] = self._keep(recipe, picture.image, *wanted[recipe])
            hang(batch)
            speed = (len(made) - before) / (time.monotonic() - began)
            yield len(made), len(wanted), (len(wanted) - len(made)) / speed
        for recipe in missing:
            arm, pair = wanted[recipe]
            if arm.kind == "gold":
                original = made[self._recipe(arms[pair.arm_x], pair, arms, backbone.fingerprint)]
                made[recipe] = self._keep(recipe, plainly_worse(self._images.open(original)), arm, pair)
        hang(r for r in missing if wanted[r][0].kind == "gold")
        yield len(made), len(wanted), 0.0

    def _keep(self, recipe: str, image: Image, arm: StudyArm, pair: StudyPair) -> str:
        sha256 = self._images.put(image)
        self._images.view(sha256)  # made now, so that no rater waits for it
        self._studies.add_picture(recipe, sha256, arm, pair, image.size)
        return sha256

    @staticmethod
    def _recipe(arm: StudyArm, pair: StudyPair, arms: dict[str, StudyArm], fingerprint: str) -> str:
        if arm.kind == "gold":  # a spoilt copy of the other side
            return "gold:" + arms[pair.arm_x].recipe(fingerprint, pair.prompt, pair.seed)
        return arm.recipe(fingerprint, pair.prompt, pair.seed)


def plainly_worse(image: Image) -> Image:
    """The picture blurred, faded and quartered in contrast: whoever looks sees that it is the worse one."""
    from PIL import Image as pil
    from PIL import ImageFilter

    blurred = image.filter(ImageFilter.GaussianBlur(max(1.5, image.width / 24)))
    return pil.blend(blurred, pil.new("RGB", image.size, (190, 190, 190)), 0.55)
