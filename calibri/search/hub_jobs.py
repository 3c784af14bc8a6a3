"""Searches as jobs of the Hugging Face hub, on the account of whoever starts them.

A search has a private dataset repository of that account: its config, its journal, what it found, the code
that runs it, and `job.json` with the job that runs it now. The job sends the journal there as it grows, so a
search whose job was stopped goes on in a new one, on the same trajectory. The token is an argument of each
call; it goes to the hub only: as the authorization of requests, and as a secret of the job.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from calibri.backbones.catalog import CATALOG, resolve
from calibri.backbones.lora import parse_lora
from calibri.errors import BackboneError, SearchError, sentence
from calibri.search.config import Budget, SearchConfig
from calibri.search.hub_code import CODE, IMAGE, list_requirements, make_command, pack_code
from calibri.search.journal import CALIBRATION, CONFIG, JOURNAL, TAIL
from calibri.words import slug

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi, JobInfo

JOB = "job.json"
FAILURE = "failure.txt"  # why the last job ended early, in words
FILES = (CONFIG, JOB, JOURNAL, TAIL, CALIBRATION, FAILURE)
LABEL = "calibri-search"
PREFIX = "calibri-search-"  # of repositories
REPO: Final = "dataset"
SCOPES = ("jobs", "contribute-repos")  # of a token of OAuth
LONGEST = 6 * 3600  # seconds of a job whose search has no limit in minutes
AROUND = 1800  # seconds for what comes before and after a search: packages, weights, the judgement
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
ABOUT = """---
tags: [calibri]
---
A search of Calibri Studio: its settings, its journal, and what it found. Its job writes here.
"""


class HubJob(BaseModel):
    """`job.json`: what runs the search of a repository. `job`: id of its last one, empty before the first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["calibri-hub-job/1"] = "calibri-hub-job/1"
    repo: str = ""
    title: str = ""
    budget: Budget = Budget()
    flavor: str = "cpu-basic"
    requirements: tuple[str, ...] = ()
    job: str = ""
    url: str = ""


@dataclass(frozen=True)
class HubSearch:
    """A search of the hub. `repo`: `owner/name`. `stage`: of its job, as the hub calls it: SCHEDULING,
    RUNNING, COMPLETED, CANCELED, ERROR or DELETED; empty where it is not known. `message`: the hub's own."""

    repo: str
    note: HubJob
    stage: str = ""
    message: str = ""

    @property
    def runs(self) -> bool:
        """Whether its job waits or works."""
        return bool(self.stage) and self.stage not in ENDED


class HubSearches:
    """The searches of one account, which pays for the jobs. `token`: its own. `endpoint`: None for the hub's.

    All methods raise SearchError with what the hub said.
    """

    def __init__(self, token: str, endpoint: str | None = None) -> None:
        from huggingface_hub import HfApi

        self._token = token
        self._api: HfApi = HfApi(endpoint=endpoint, token=token)

    def start(
        self,
        config: SearchConfig,
        budget: Budget,
        *,
        title: str = "",
        flavor: str = "",
        most_seconds: float = math.inf,
    ) -> HubSearch:
        """Make a private repository for a search, and begin its job. `flavor`: the hub's name of a machine.
        `most_seconds`: the job ends by then, as it must while the token is valid."""
        check_portable(config)
        with _told():
            owner = str(self._api.whoami()["name"])
            repo = f"{owner}/{PREFIX}{slug(title, 'run', 30)}-{secrets.token_hex(3)}"
            note = HubJob(
                repo=repo,
                title=title,
                budget=budget,
                flavor=flavor or suggest_flavor(config),
                requirements=list_requirements(),
            )
            self._api.create_repo(repo, repo_type=REPO, private=True)
        try:
            with _told():
                files: dict[str, str | bytes] = {CONFIG: config.to_json(), "README.md": ABOUT}
                files[CODE] = pack_code(config)
                self._send(repo, note, files, "A search begins")
            return self._run(repo, note, most_seconds)
        except SearchError:
            with suppress(Exception):  # the first error tells what happened
                self._api.delete_repo(repo, repo_type=REPO)
            raise

    def resume(
        self, repo: str, *, flavor: str = "", budget: Budget | None = None, most_seconds: float = math.inf
    ) -> HubSearch:
        """Go on with a search in a new job, after the last generation in its journal, with the code and the
        packages that it began with."""
        known = self.find(repo)
        if known.runs:
            raise SearchError(f"This search runs already, as {known.note.url}.")
        changes: dict[str, Any] = {"budget": budget or known.note.budget}
        note = known.note.model_copy(update=changes | {"flavor": flavor or known.note.flavor})
        return self._run(repo, note, most_seconds)

    def stop(self, repo: str) -> HubSearch:
        """End the job. What is in the journal stays."""
        known = self.find(repo)
        if not known.runs:
            raise SearchError("This search does not run.")
        with _told():
            self._api.cancel_job(job_id=known.note.job, namespace=_owner(repo))
        return self.find(repo)

    def find(self, repo: str) -> HubSearch:
        """A search and the stage of its job."""
        with _told():
            path = self._api.hf_hub_download(repo, JOB, repo_type=REPO)
        note = read_job(Path(path))
        if not note.job:
            return HubSearch(repo, note)
        with _told():
            info = self._api.inspect_job(job_id=note.job, namespace=_owner(repo))
        return HubSearch(repo, note, _stage(info), info.status.message or "")

    def list_repos(self) -> list[str]:
        """The repositories of this account's searches, the newest first."""
        with _told():
            owner = str(self._api.whoami()["name"])
            found = self._api.list_datasets(author=owner, search=PREFIX, sort="created_at")
            names = [each.id for each in found]
        return [name for name in names if name.startswith(f"{owner}/{PREFIX}")]

    def fetch(self, repo: str, folder: Path) -> str:
        """Bring the files of the run that are there into a folder, where a journal is read as it grows.
        Returns why its last job ended early, in words, or nothing."""
        with _told():
            there = set(self._api.list_repo_files(repo, repo_type=REPO))
            for name in FILES:
                if name in there:
                    self._api.hf_hub_download(repo, name, repo_type=REPO, local_dir=folder)
                else:
                    (folder / name).unlink(missing_ok=True)
        failure = folder / FAILURE
        return failure.read_text(encoding="utf-8").strip() if failure.exists() else ""

    def _run(self, repo: str, note: HubJob, most_seconds: float) -> HubSearch:
        minutes = note.budget.minutes
        wanted = LONGEST if minutes is None else 60 * minutes + AROUND
        seconds = int(min(wanted, most_seconds))
        if seconds < 60:
            raise SearchError("Your sign-in with the hub ends within a minute. Sign in again, then start.")
        with _told():
            job: JobInfo = self._api.run_job(
                image=IMAGE,
                command=make_command(note.requirements),
                env={"CALIBRI_REPO": repo, "HF_HUB_DISABLE_TELEMETRY": "1"},
                secrets={"HF_TOKEN": self._token},
                flavor=note.flavor,
                timeout=seconds,
                name=LABEL,
                labels={LABEL: repo.partition("/")[2]},
                namespace=_owner(repo),
            )
            note = note.model_copy(update={"job": job.id, "url": job.url})
            self._send(repo, note, {}, f"Job {job.id}")
        return HubSearch(repo, note, _stage(job))

    def _send(self, repo: str, note: HubJob, files: dict[str, str | bytes], words: str) -> None:
        from huggingface_hub import CommitOperationAdd

        content = {**files, JOB: note.model_dump_json(indent=1)}
        operations: list[CommitOperationAdd] = [
            CommitOperationAdd(name, text.encode() if isinstance(text, str) else text)
            for name, text in content.items()
        ]
        self._api.create_commit(repo, operations, commit_message=words, repo_type=REPO)


def check_portable(config: SearchConfig) -> None:
    """Raises SearchError for what a job cannot reach: folders of this machine."""
    sources = dict(config.reward_loading.sources)
    if config.backbone not in CATALOG:
        try:
            spec = resolve(config.backbone)
        except BackboneError as error:
            raise SearchError(str(error)) from error
        if spec.is_local:
            raise SearchError(
                f"backbone: expected a name of the catalogue or a hub id, got the folder {spec.name}: a job "
                "of the hub cannot read this machine"
            )
    loading = config.load_options
    sources |= {f"LoRA {n}": parse_lora(text).source for n, text in enumerate(loading.loras, 1)}
    sources |= {"the transformer": loading.transformer} if loading.transformer else {}
    for name, source in sources.items():
        if is_of_this_machine(source):
            raise SearchError(
                f"the source of {name}: expected a hub id, got a file or folder: a job of the hub cannot "
                "read this machine"
            )


def is_of_this_machine(source: str) -> bool:
    """Whether it is a path, and no hub id."""
    return Path(source).expanduser().exists() or source.startswith((".", "/", "~"))


def suggest_flavor(config: SearchConfig) -> str:
    """A machine of the hub that such a search fits on."""
    return "cpu-upgrade" if config.backbone == "tabletop" else "l40sx1"


def _owner(repo: str) -> str:
    return repo.partition("/")[0]


def _stage(job: JobInfo) -> str:
    return str(getattr(job.status.stage, "value", job.status.stage))


def read_job(path: Path) -> HubJob:
    """What a `job.json` says. Raises SearchError."""
    try:
        return HubJob.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise SearchError(f"{JOB} is not the note of a search: {sentence(error)}") from error


@contextmanager
def _told() -> Iterator[None]:
    """What the hub refuses, as a SearchError in words."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise SearchError(_explain(error.response.status_code, error.server_message or "")) from error
    except hub_errors() as error:
        raise SearchError(f"The hub could not be reached ({type(error).__name__}). Try again.") from error


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises: the errors of its HTTP library, whichever it is, and of files."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))


def _explain(status: int, said: str) -> str:
    said = f" It says: {said.strip().rstrip('.')}." if said.strip() else ""
    if status == 401:
        return f"The hub does not take this sign-in. Sign in again.{said}"
    if status == 402:
        return (
            "The hub runs jobs for accounts with credit: add some at https://huggingface.co/settings/billing."
            f"{said}"
        )
    if status == 403:
        return f"This token may not do that: it needs the scopes {' and '.join(SCOPES)}.{said}"
    if status == 404:
        return f"The hub has no such search or job.{said}"
    return f"The hub refused (status {status}).{said}"
