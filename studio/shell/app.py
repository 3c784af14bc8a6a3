"""The services of a studio and all its pages in one app. A new page is one module and one line in `pages`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import gradio as gr

from calibri.assets import ASSETS
from studio.access import signin
from studio.calibrations import CalibrationStore
from studio.compare import page as compare
from studio.core import Core
from studio.diagnose import page as diagnose
from studio.diagnose.sweeps import Sweeps
from studio.library import page as library
from studio.library.thumbnails import Thumbnails
from studio.machine.host import ModelHost
from studio.machine.render_cache import RenderCache
from studio.quick_vote import page as quick_vote
from studio.scales import page as scales
from studio.search import page as search
from studio.search.jobs import Searches
from studio.settings import Settings
from studio.shell import api
from studio.shell.model_bar import model_bar
from studio.studies.http import routes
from studio.studies.pages import manage, results, vote
from studio.studies.studies import Studies, open_studies
from studio.ui.elements import plotly_path
from studio.ui.theme import css, head, theme


@dataclass(frozen=True)
class Studio:
    """Everything that outlives a page, opened and closed in one place. `searches`, `sweeps`, `thumbnails`:
    None where nothing can run in the background; then there is no page Search and Diagnose."""

    core: Core
    studies: Studies
    searches: Searches | None = None
    sweeps: Sweeps | None = None
    thumbnails: Thumbnails | None = None

    def close(self) -> None:
        """Close what was opened, in reverse order. Safe to call twice."""
        for service in (self.thumbnails, self.sweeps, self.searches, self.studies):
            if service is not None:
                service.close()


class Page(NamedTuple):
    """A module with TITLE and PATH, and what lays it out inside the current Blocks."""

    module: ModuleType
    build: Callable[[], None]


def pages(studio: Studio) -> list[Page]:
    """The pages of this studio in the order of the navigation; the first is the one a newcomer sees."""
    core, studies, searches, sweeps = studio.core, studio.studies, studio.searches, studio.sweeps
    shown = [Page(compare, partial(compare.build, core)), Page(scales, partial(scales.build, core))]
    if sweeps is not None:
        if searches is not None:
            shown.append(Page(search, partial(search.build, core, searches, sweeps)))
        shown.append(Page(diagnose, partial(diagnose.build, core, sweeps)))
    return [
        *shown,
        Page(library, partial(library.build, core, studio.thumbnails)),
        Page(quick_vote, partial(quick_vote.build, core, studies)),
        Page(manage, partial(manage.build, core, studies)),
        Page(vote, vote.build),
        Page(results, partial(results.build, core, studies)),
    ]


def build_app(studio: Studio) -> gr.Blocks:
    """The whole studio as one multi-page Blocks; nothing is loaded or started."""
    gr.set_static_paths([plotly_path()])
    core, searches = studio.core, studio.searches
    first, *others = pages(studio)
    app = gr.Blocks(title="Calibri Studio", analytics_enabled=False, fill_width=True)
    with app:
        gr.Navbar(main_page_name=first.module.TITLE)
        model_bar(core, searches)
        first.build()
        api.endpoints(core, searches)
    for module, build in others:
        with app.route(module.TITLE, module.PATH, show_in_navbar=getattr(module, "IN_NAVBAR", True)):
            gr.Navbar(main_page_name=first.module.TITLE)
            if getattr(module, "MODEL_BAR", True):
                model_bar(core, searches)
            build()
    return app


def launch_options(studio: Studio) -> dict[str, Any]:
    """Arguments of `Blocks.launch` for these settings: look, limits, and nothing sent anywhere."""
    settings, door = studio.core.settings, studio.core.signin
    options: dict[str, Any] = {
        "server_name": settings.host,
        "share": settings.share,
        "theme": theme(),
        "css": css(),
        "head": head(),
        "footer_links": ["api", "settings"],
        "show_error": True,
        "quiet": True,
        "ssr_mode": False,
        "enable_monitoring": False,
        "run_history": False,
        "pwa": False,
        "max_file_size": "2mb",
        "blocked_paths": [str(settings.data.resolve())],
        "allowed_paths": [],
    }
    own = routes(studio.studies)
    if settings.demo:
        own += signin.routes(door)
    options["app_kwargs"] = {"routes": own}
    if settings.demo:
        options["app_kwargs"]["middleware"] = signin.middleware(door)
    if settings.root_path:
        options["root_path"] = settings.root_path
    if settings.accounts and not settings.demo:
        options["auth"] = settings.accounts
        options["auth_message"] = "Sign in to Calibri Studio."
    return options


def open_studio(settings: Settings) -> Studio:
    """A studio with everything that these settings allow. Loads no model yet: `core.start()` does."""
    host = ModelHost(device=settings.device, dtype=settings.dtype, batch_size=settings.batch_size)
    core = Core(settings, host, CalibrationStore(ASSETS / "calibrations", settings.data / "calibrations"))
    studies = open_studies(settings.data, host)
    if settings.no_search:
        return Studio(core, studies)
    searches = Searches(host, settings.data / "runs", ASSETS, core.rewards)
    sweeps = Sweeps(settings.data / "sweeps", host, pace=searches.pace, load=core.rewards.load)
    renders = RenderCache(settings.data / "renders")
    thumbnails = Thumbnails(host, core.calibrations, settings.data / "thumbnails", renders)
    return Studio(core, studies, searches, sweeps, thumbnails)
