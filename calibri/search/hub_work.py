"""What runs inside a job of the hub: the search of one repository, whose journal is sent there as it grows.

`CALIBRI_REPO` names the repository, `HF_TOKEN` is the account's token. Ending the job, at its time limit or
by hand, leaves the run as the journal in the repository says: the next job goes on from there.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from calibri.errors import CalibriError
from calibri.search.hub_jobs import FAILURE, JOB, REPO, HubJob, hub_errors
from calibri.search.journal import CALIBRATION, CONFIG, JOURNAL, TAIL, JournalTail

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from calibri.backbones.loading import Backbone
    from calibri.rewards.base import Reward
    from calibri.search.config import SearchConfig

log = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two sendings, at least
TRIES = 5  # of the last sending


class Stopped(Exception):
    """The job is being ended from outside."""


class Work:
    """One job's work on a repository. `load(config) -> backbone, rewards by name`."""

    def __init__(self, api: HfApi, repo: str, folder: Path, every: float = EVERY) -> None:
        self._api, self._repo, self._folder, self._every = api, repo, folder, every
        self._sent = time.monotonic()
        self.stopping = False

    def run(self) -> str:
        """Search to the end of the budget. Returns the last words of the result.

        Raises Stopped, and what run_search raises.
        """
        note = self._fetch()
        config = JournalTail(self._folder).config()
        if config is None:
            raise CalibriError(f"{self._repo} has no {CONFIG}")
        from calibri.search.run import run_search

        backbone, rewards = load(config)
        words = ""
        try:
            for record in run_search(
                None,
                self._folder,
                backbone=backbone,
                rewards=rewards,
                budget=note.budget if note.budget.model_dump(exclude_none=True) else None,
                stop=self._ask,
                abandon=self._ask,
            ):
                words = str(getattr(record, "text", ""))
                print(type(record).__name__, words, flush=True)  # the job's log
                if time.monotonic() - self._sent >= self._every:
                    self._try_to_send()
        finally:
            self._send_at_last()
        return words

    def _ask(self) -> bool:
        if self.stopping:
            raise Stopped
        return False

    def _fetch(self) -> HubJob:
        there = set(self._api.list_repo_files(self._repo, repo_type=REPO))
        for name in (CONFIG, JOURNAL, JOB):
            if name in there:
                self._api.hf_hub_download(self._repo, name, repo_type=REPO, local_dir=self._folder)
        return HubJob.model_validate_json((self._folder / JOB).read_text(encoding="utf-8"))

    def _send(self, failure: str = "") -> None:
        from huggingface_hub import CommitOperationAdd

        names = [name for name in (JOURNAL, TAIL, CALIBRATION) if (self._folder / name).exists()]
        operations = [CommitOperationAdd(name, (self._folder / name).read_bytes()) for name in names]
        operations.append(CommitOperationAdd(FAILURE, f"{failure}\n".encode()))
        self._api.create_commit(self._repo, operations, commit_message="What was found", repo_type=REPO)
        self._sent = time.monotonic()

    def _try_to_send(self) -> None:
        try:
            self._send()
        except hub_errors() as error:  # the next record tries again
            log.warning("the journal could not be sent: %s", type(error).__name__)

    def _send_at_last(self) -> None:
        for number in range(TRIES):
            try:
                self._send()
                return
            except hub_errors() as error:
                log.warning("the journal could not be sent: %s", type(error).__name__)
                time.sleep(min(self._every, 2.0**number))

    def tell(self, failure: str) -> None:
        """Say in the repository why the job ends early."""
        try:
            self._send(failure)
        except hub_errors() as error:
            log.warning("what went wrong could not be sent: %s", type(error).__name__)


def load(config: SearchConfig) -> tuple[Backbone, Mapping[str, Reward]]:
    """The backbone and the rewards of a search."""
    from calibri.backbones.loading import load_backbone

    backbone = load_backbone(config.backbone, options=config.load_options)
    return backbone, config.reward_loading.load(config.reward_names, backbone.device)


def main(environment: Mapping[str, str] | None = None) -> int:
    """Returns the exit code: 0 for a search that ended, 1 for one that failed, 143 for one that was
    stopped."""
    from huggingface_hub import HfApi

    environment = os.environ if environment is None else environment
    logging.basicConfig(level=logging.WARNING)
    api = HfApi(token=environment["HF_TOKEN"])
    with tempfile.TemporaryDirectory() as folder:
        work = Work(api, environment["CALIBRI_REPO"], Path(folder))

        def stop(number: int, frame: FrameType | None) -> None:
            work.stopping = True

        signal.signal(signal.SIGTERM, stop)
        try:
            print(work.run(), flush=True)
        except Stopped:
            return 143
        except CalibriError as error:
            print(error, file=sys.stderr, flush=True)
            work.tell(str(error))
            return 1
        except Exception as error:
            work.tell(f"{type(error).__name__}: {error}")
            raise
    return 0
