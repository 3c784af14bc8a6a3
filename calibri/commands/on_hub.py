"""`calibri search --on hf-jobs`: a search on the hub's machines, on the account of the token here."""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from calibri.backbones.catalog import BackboneSpec, resolve
from calibri.errors import SearchError
from calibri.search.hub_jobs import JOB, HubSearch, HubSearches, read_job

if TYPE_CHECKING:
    from calibri.backbones.layouts import Granularity, Layout
    from calibri.backbones.loading import Backbone
    from calibri.backbones.sites import Site

POLL = 15.0  # seconds between two looks at the journal
TARGET = "hf-jobs"


@dataclass(frozen=True)
class Unloaded:
    """What settings need of a backbone, without its weights."""

    spec: BackboneSpec

    def layout(self, granularity: Granularity) -> Layout:
        """Raises BackboneError for a backbone whose sites are not known without its weights."""
        from calibri.backbones.layouts import Layout

        return Layout.from_sites(self.sites, granularity)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Raises BackboneError as `layout` does."""
        from calibri.commands.info import sites_of_spec

        return sites_of_spec(self.spec)


def read_target(text: str) -> str:
    """The flavor in `hf-jobs:FLAVOR`; empty for the usual one. Raises SearchError."""
    found = re.fullmatch(rf"{TARGET}(?::([a-z0-9-]+))?", text)
    if found is None:
        raise SearchError(f"--on: expected {TARGET} or {TARGET}:FLAVOR such as {TARGET}:l40sx1, got {text!r}")
    return found[1] or ""


def run_on_hub(args: argparse.Namespace) -> int:
    """Begin a search as a job, or go on with one, and follow it. Ctrl-C leaves the job running."""
    from huggingface_hub import get_token

    flavor = read_target(args.on)
    if args.ray:
        raise SearchError("--on: a search on the hub renders on one machine: leave out --ray")
    token = get_token()
    if not token:
        raise SearchError("--on: expected a token of the hub in HF_TOKEN, with the right to start jobs")
    searches = HubSearches(token)
    folder, found = _resume(args, searches, flavor) if args.resume else _start(args, searches, flavor)
    print(f"{found.repo}: {found.note.url}", file=sys.stderr)
    try:
        return _follow(args, searches, found, folder)
    except KeyboardInterrupt:
        print(
            f"\nThe job goes on. Follow it: calibri search --on {TARGET} --resume {folder}\n"
            f"End it: hf jobs cancel {found.note.job}",
            file=sys.stderr,
        )
        return 0


def _start(args: argparse.Namespace, searches: HubSearches, flavor: str) -> tuple[Path, HubSearch]:
    from calibri.commands.rewards import read_loading
    from calibri.commands.search import make_config, read_form, read_limits
    from calibri.search.run import DEFAULT_BUDGET

    if not args.reward:
        raise SearchError("give --reward NAMES, for example --reward tabletop-align,tabletop-quality")
    if args.out.exists() and any(args.out.iterdir()):
        raise SearchError(f"--out: expected a new folder, got {args.out}, which holds something")
    backbone = cast("Backbone", Unloaded(resolve(args.backbone)))
    form = read_form(args)
    loading = read_loading(args, form.reward_names)
    config = make_config(args, form, backbone).model_copy(update={"reward_loading": loading})
    budget = read_limits(args) or DEFAULT_BUDGET
    return args.out, searches.start(config, budget, title=args.out.name, flavor=flavor)


def _resume(args: argparse.Namespace, searches: HubSearches, flavor: str) -> tuple[Path, HubSearch]:
    """The search whose files a folder mirrors, or of a repository `owner/name`; one that runs is followed."""
    from calibri.commands.search import read_limits, refuse_changes

    refuse_changes(args)
    folder: Path = args.resume
    if (folder / JOB).is_file():
        repo = read_job(folder / JOB).repo
    else:
        repo, folder = folder.as_posix(), Path(folder.name)
        if repo.count("/") != 1:
            raise SearchError(
                f"--resume: expected a folder with a {JOB}, or owner/name of a search's repository, "
                f"got {repo}"
            )
    found = searches.find(repo)
    return folder, found if found.runs else searches.resume(repo, flavor=flavor, budget=read_limits(args))


def _follow(args: argparse.Namespace, searches: HubSearches, found: HubSearch, folder: Path) -> int:
    """Show the journal as it grows, until the job ends."""
    from calibri.commands.live import JsonView, live_view
    from calibri.search.journal import JournalTail

    folder.mkdir(parents=True, exist_ok=True)
    failure = searches.fetch(found.repo, folder)
    tail = JournalTail(folder)
    config = tail.config()
    if config is None:
        raise SearchError(f"{found.repo} holds no search: it has no config.json")
    view = JsonView() if args.json else live_view(config, folder)
    with view:
        for record in tail.poll():
            view.replay(record)
        while True:
            runs = found.runs
            for record in tail.poll():
                view.show(record)
            if not runs:
                break
            time.sleep(POLL)
            found = searches.find(found.repo)
            failure = searches.fetch(found.repo, folder)
    if found.stage == "COMPLETED":
        return 0
    why = failure or found.message or f"the hub says {found.stage}"
    raise SearchError(f"the job ended early ({why}); go on with --on {TARGET} --resume {folder}")
