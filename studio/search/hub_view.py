"""A search that runs as a job of the hub, as the page Search shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from calibri.errors import SearchError
from calibri.search.hub_jobs import PREFIX, HubSearch
from calibri.search.journal import JournalTail
from studio.search.runs import Run, RunNote
from studio.search.status import JobStatus, State, see

STAGES = {"SCHEDULING": "the hub looks for a machine", "RUNNING": "works on a machine of the hub"}


def read_run(found: HubSearch, folder: Path) -> Run:
    """The run whose files were brought into a folder. Raises SearchError."""
    config = JournalTail(folder).config()
    if config is None:
        raise SearchError("This repository holds no search: it has no config.json.")
    note = RunNote(title=found.note.title or short_name(found.repo), budget=found.note.budget)
    run = Run(folder, config, note, 0.0)
    run.read()
    return run


def status_of(found: HubSearch, run: Run, failure: str) -> JobStatus:
    """Where the search is. `failure`: what its last job said that it failed with."""
    state: State = "running" if found.runs else "done" if run.over and not run.error else "interrupted"
    if state == "interrupted" and (failure or found.stage == "ERROR"):
        state = "failed"
    status = see(run, None).status
    doing = STAGES.get(found.stage, "") if found.runs else ""
    left = run.seconds_left(run.limits) if found.runs else None
    why = failure or found.message or "the job ended with an error; its log on the hub says more."
    error = run.error or (why if state == "failed" else "")
    return replace(status, id=found.repo, state=state, doing=doing, seconds_left=left, error=error)


def short_name(repo: str) -> str:
    """A search in the list of a visitor's own."""
    return repo.partition("/")[2].removeprefix(PREFIX)
