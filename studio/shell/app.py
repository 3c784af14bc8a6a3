"""All pages in one app. A new page is one module and one name in PAGES."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import gradio as gr

from studio.access import signin
from studio.calibrations import CalibrationStore
from studio.core import Services
from studio.diagnose.sweeps import Sweeps
from studio.library.thumbnails import Thumbnails
from studio.machine.host import ModelHost
from studio.machine.render_cache import RenderCache
from studio.search.jobs import SearchJobs
from studio.settings import ASSETS, Settings
from studio.shell import api
from studio.shell.model_bar import model_bar
from studio.studies.http import routes
from studio.studies.studies import open_studies
from studio.ui.elements import plotly_path
from studio.ui.theme import css, head, theme

#: Modules of studio in the order of the navigation; the first is the one a newcomer sees. Each has TITLE,
#: PATH and build(services), and may have available(services) -> bool.
PAGES: tuple[str, ...] = (
    "compare.page",
    "scales.page",
    "search.page",
    "diagnose.page",
    "library.page",
    "quick_vote.page",
    "studies.pages.manage",
    "studies.pages.vote",
    "studies.pages.results",
)


def pages(services: Services) -> list[ModuleType]:
    """The pages that these services can fill."""
    modules = [importlib.import_module(f"studio.{name}") for name in PAGES]
    return [m for m in modules if getattr(m, "available", lambda _: True)(services)]


def build_app(services: Services) -> gr.Blocks:
    """The whole studio as one multi-page Blocks; nothing is loaded or started."""
    gr.set_static_paths([plotly_path()])
    shown = pages(services)
    app = gr.Blocks(title="Calibri Studio", analytics_enabled=False, fill_width=True)
    with app:
        gr.Navbar(main_page_name=shown[0].TITLE)
        model_bar(services)
        shown[0].build(services)
        api.endpoints(services)
    for module in shown[1:]:
        with app.route(module.TITLE, module.PATH, show_in_navbar=getattr(module, "IN_NAVBAR", True)):
            gr.Navbar(main_page_name=shown[0].TITLE)
            if getattr(module, "MODEL_BAR", True):
                model_bar(services)
            module.build(services)
    return app


def launch_options(services: Services) -> dict[str, Any]:
    """Arguments of `Blocks.launch` for these settings: look, limits, and nothing sent anywhere."""
    settings = services.settings
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
    own = routes(services.studies) if services.studies is not None else []
    if settings.demo:
        own += signin.routes(services.signin)
    options["app_kwargs"] = {"routes": own}
    if settings.demo:
        options["app_kwargs"]["middleware"] = signin.middleware(services.signin)
    if settings.root_path:
        options["root_path"] = settings.root_path
    if settings.accounts and not settings.demo:
        options["auth"] = settings.accounts
        options["auth_message"] = "Sign in to Calibri Studio."
    return options


def open_services(settings: Settings) -> Services:
    """The services of a running studio. Loads no model yet: `start()` does."""
    host = ModelHost(device=settings.device, dtype=settings.dtype, batch_size=settings.batch_size)
    calibrations = CalibrationStore(ASSETS / "calibrations", settings.data / "calibrations")
    jobs = None if settings.no_search else SearchJobs(host, settings.data / "runs", ASSETS)
    sweeps = thumbnails = None
    if jobs is not None:
        sweeps = Sweeps(settings.data / "sweeps", host, pace=jobs.pace, load=jobs.rewards.load)
        renders = RenderCache(settings.data / "renders")
        thumbnails = Thumbnails(host, calibrations, settings.data / "thumbnails", renders)
    return Services(
        settings=settings,
        host=host,
        calibrations=calibrations,
        studies=open_studies(settings.data, host),
        jobs=jobs,
        sweeps=sweeps,
        thumbnails=thumbnails,
    )
