"""A public studio: everybody compares and votes; the rest is for organisers, however it is called."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError, AuthenticationError

from studio.access.limits import MOST_PICTURES
from studio.access.signin import SESSION, VISITOR
from studio.machine.host import ModelHost
from tests.studio.launched import PATIENCE, Launched, launched

ROOT = Path(__file__).resolve().parents[3]
NAME, PASSWORD = "ann", "open:sesame"
REFUSED = re.compile(r"[Oo]nly (its|the) organisers")
PROMPTS = [f"a red cube {i}" for i in range(24)]

#: Handlers that change something shared, or tell of studies: each asks who calls. module.function, without
#: the packages studio and <locals>.
GUARDED = {
    "shell.model_bar.model_bar.open_chooser",
    "shell.model_bar.model_bar.load_chosen",
    "shell.model_bar.model_bar.load_last",
    "shell.reward_panel.wire_panel.on_open",
    "shell.reward_panel.wire_panel.on_load",
    "shell.reward_panel.wire_panel.on_unload",
    "shell.api._add_searches.start_a_search",
    "compare.send.wire_sending.on_study",
    "scales.page._wire_files.on_save",
    "scales.page._wire_files.on_save_one",
    "search.page.Acts.on_start",
    "search.page.Acts.on_resume",
    "search.page.Acts._act.on_act",
    "search.page.Results.on_save",
    "diagnose.page.Handlers.start",
    "diagnose.page.Handlers.stop",
    "diagnose.page.Handlers.resume",
    "library.page.Handlers.rename",
    "library.page.Handlers.duplicate",
    "library.page.Handlers.delete",
    "library.page.Handlers.restore",
    "library.page.Handlers.take_in",
    "studies.pages.new.wire.on_make",
    "studies.pages.plan_panel.make_handler.on_plan",
    "studies.pages.manage.Handlers.act.act",
    "studies.pages.manage.Handlers.on_invite",
    "studies.pages.invited.InviteHandlers.on_invite",
    "studies.pages.invited.InviteHandlers.change.on_change",
    "studies.pages.results.Handlers.on_show",
    "studies.pages.results.Handlers.on_make",
    "studies.pages.reward_card.CardHandlers.on_score",
    "diagnose.page.Handlers.put_away",
    "library.travel_page.TravelHandlers.fold",
    "search.runs_table.TableActs.export",
    "search.runs_table.TableActs.weigh",
    "search.two_minutes.Handlers.start",
    "search.two_minutes.Handlers.stop",
    "shell.model_bar.model_bar.advise_on",
    "studies.pages.results.Handlers.on_put_away",
}
ASKS = ("organisers_only", "may_organise")
FREE = {  # ask, to show less to those who may not
    "studies.pages.manage.Handlers.on_load",
    "studies.pages.manage.Handlers.on_tick",
    "studies.pages.manage.Handlers.list_invites",  # no line of them
    "studies.pages.invited.InviteHandlers.on_pick",
    "studies.pages.invited.InviteHandlers.on_show",
    "studies.pages.invited.InviteHandlers.on_tick",
    "studies.pages.results.Handlers.on_load",
    "studies.pages.reward_card.CardHandlers.on_look",
    "studies.pages.results.Handlers.on_board",
    "search.two_minutes.Handlers.start_wished",  # starts what this browser was just asked for, else nothing
}


@pytest.fixture(scope="module")
def studio(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    folder = tmp_path_factory.mktemp("demo")
    with launched(folder, host, demo=True, auth=f"{NAME}:{PASSWORD}", rate=6) as made:
        yield made


@pytest.fixture
def visitor(studio: Launched) -> Iterator[httpx.Client]:
    with studio.client() as client:
        assert client.get("/").status_code == 200
        yield client


@contextmanager
def signed_in(studio: Launched) -> Iterator[httpx.Client]:
    with studio.client() as client:
        answer = client.post("/signin", data={"username": NAME, "password": PASSWORD})
        assert answer.status_code == 303 and answer.headers["location"] == "./"
        yield client


def sessions(client: httpx.Client) -> list[str]:
    return [name for name in client.cookies if name.startswith(SESSION)]


def defaults(studio: Launched, number: int) -> list[Any]:
    """What a fresh page would send with this event."""
    values = []
    for block in studio.app.fns[number].inputs:
        value = getattr(block, "value", None)
        values.append(value if isinstance(value, str | int | float | list) and not callable(value) else None)
    return values


def everything(studio: Launched) -> tuple[Any, ...]:
    """What no visitor may change."""
    core = studio.core
    files = sorted(
        str(path.relative_to(core.settings.data))
        for path in core.settings.data.rglob("*")
        if path.is_file() and ".duckdb" not in path.name and path.name != "signin.key"
    )
    status = core.host.status
    return (
        files,
        [job.id for job in studio.studio.searches.all()],
        [entry.id for entry in core.calibrations.entries()],
        [study.id for study in studio.studio.studies.store.all()],
        (status.backbone, status.loads, status.phase),
    )


# rights


def name_handler(function: Any) -> str:
    function = getattr(function, "func", function)  # of a partial
    module = getattr(function, "__module__", "") or ""
    qualified = getattr(function, "__qualname__", "").replace(".<locals>", "")
    return f"{module.removeprefix('studio.')}.{qualified}"


def find_askers() -> set[str]:
    """Every function of the studio that asks for rights, itself or through one of its own module."""
    askers = set()
    for path in (ROOT / "studio").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT / "studio").with_suffix("").parts)
        calls: dict[str, set[str]] = {}
        _collect_calls(ast.parse(path.read_text(encoding="utf-8")), "", calls)
        asking: set[str] = set()
        while True:
            names = {name.rsplit(".", 1)[-1] for name in asking}
            names |= {f"self.{name}" for name in names}
            more = {f for f, made in calls.items() if made & names or any(m.endswith(ASKS) for m in made)}
            if more == asking:
                break
            asking = more
        askers |= {f"{module}.{name}" for name in asking}
    return askers


def _collect_calls(node: ast.AST, place: str, calls: dict[str, set[str]]) -> None:
    """Function, by its place in the module → what it calls, inner functions left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{place}.{child.name}".strip(".")
            if not isinstance(child, ast.ClassDef):
                calls.setdefault(inner, set())
            _collect_calls(child, inner, calls)
        else:
            if isinstance(child, ast.Call) and place in calls:
                calls[place].add(ast.unparse(child.func))
            _collect_calls(child, place, calls)


def test_no_guarded_event_answers_a_visitor_and_nothing_changes(
    studio: Launched, visitor: httpx.Client
) -> None:
    before = everything(studio)
    called = set()
    for number, fn in studio.app.fns.items():
        name = name_handler(fn.fn)
        if name in GUARDED:
            worked, answer = studio.call(visitor, number, defaults(studio, number))
            assert not worked and REFUSED.search(str(answer)), (name, number, answer)
            called.add(name)
    assert called == GUARDED
    assert everything(studio) == before


def test_the_list_of_guarded_events_is_complete(studio: Launched) -> None:
    """A handler that begins to ask for rights is called by the test above, too."""
    bound = {name_handler(fn.fn) for fn in studio.app.fns.values()}
    assert (find_askers() & bound) - FREE == GUARDED


def test_every_handler_that_asks_for_rights_asks_the_studio(studio: Launched) -> None:
    """Gradio's own user name is nobody's at a public studio: no page may look at it."""
    for path in sorted((ROOT / "studio").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name != "rights.py":
            assert "request.username" not in text, path.name


def test_people_are_rendered_for_in_one_place() -> None:
    asking = [
        path.name
        for path in sorted((ROOT / "studio").rglob("*.py"))
        if "Priority.INTERACTIVE" in path.read_text(encoding="utf-8")
    ]
    assert asking == ["host.py", "shots.py"]  # loading a backbone, and pictures, which the limits admit


def test_an_organiser_gets_through(studio: Launched) -> None:
    before = everything(studio)
    with signed_in(studio) as client:
        [number] = studio.indices("start_a_search")
        worked, answer = studio.call(client, number, ["hair", ["tabletop-quality"], 1, 8, 0, "", PROMPTS])
        assert not worked and "granularity" in str(answer) and not REFUSED.search(str(answer))
        for number in studio.indices("load_chosen")[:1]:
            worked, answer = studio.call(client, number, ["tabeltop", *defaults(studio, number)[1:]])
            assert not worked and "did you mean tabletop" in str(answer)
        for number in studio.indices("open_chooser"):
            assert studio.call(client, number)[0]
    assert everything(studio) == before


@pytest.mark.parametrize("cookie", ["", "x.y", "WyJhbm4iLCA5OTk5OTk5OTk5XQ==." + "0" * 64])
def test_a_forged_session_is_nobodys(studio: Launched, cookie: str) -> None:
    with studio.client() as client:
        client.cookies.set(SESSION, cookie)
        client.cookies.set("access-token", "x")
        number = studio.indices("load_chosen")[0]
        worked, answer = studio.call(client, number, ["tabletop", *defaults(studio, number)[1:]])
    assert not worked and REFUSED.search(str(answer))


def test_direct_calls_do_not_skip_the_queue_or_the_rights(studio: Launched, visitor: httpx.Client) -> None:
    number = studio.indices("load_chosen")[0]
    answer = visitor.post("/gradio_api/api/predict", json={"data": ["tabletop"], "fn_index": number})
    assert answer.status_code == 404 and "join the queue" in answer.text
    worked, answer = studio.call(visitor, number, ["tabletop", *defaults(studio, number)[1:]])
    assert not worked and REFUSED.search(str(answer))
    assert studio.core.backbone_name == "tiny"


# the door


def test_signing_in_and_out(studio: Launched) -> None:
    with studio.client() as client:
        form = client.get("/signin")
        assert 'name="password"' in form.text and form.headers["x-frame-options"] == "DENY"
        wrong = client.post("/signin", data={"username": NAME, "password": "guess"})
        assert wrong.status_code == 403 and "wrong" in wrong.text and not sessions(client)
        right = client.post("/signin", data={"username": NAME, "password": PASSWORD})
        sent = next(c for c in right.headers.get_list("set-cookie") if c.startswith(SESSION))
        assert "HttpOnly" in sent and "SameSite=lax" in sent and PASSWORD not in sent
        assert f"signed in as <b>{NAME}</b>" in client.get("/signin").text
        assert client.post("/signout").status_code == 303
        assert 'name="password"' in client.get("/signin").text


@pytest.mark.parametrize("path", ["/signin", "/login"])
def test_what_is_no_form_of_ours_is_refused(studio: Launched, path: str) -> None:
    good = {"username": NAME, "password": PASSWORD}
    with studio.client() as client:
        elsewhere = client.post(path, data=good, headers={"sec-fetch-site": "cross-site"})
        assert elsewhere.status_code in (401, 403) and not sessions(client)
        for data in ({"username": NAME}, {"username": NAME, "password": "x" * 10_000}):
            assert client.post(path, data=data).status_code in (401, 403)


def test_over_https_the_cookies_are_secure(studio: Launched) -> None:
    with studio.client() as client:
        headers = {"x-forwarded-proto": "https"}
        page = client.get("/", headers=headers).headers.get_list("set-cookie")
        assert any(c.startswith(VISITOR) and "Secure" in c and "Partitioned" in c for c in page)
        sent = client.post("/signin", data={"username": NAME, "password": PASSWORD}, headers=headers)
        assert any(c.startswith(SESSION) and "Secure" in c for c in sent.headers.get_list("set-cookie"))


def test_a_program_signs_in_with_gradio_client(studio: Launched) -> None:
    organiser = Client(studio.url, auth=(NAME, PASSWORD), verbose=False, httpx_kwargs={"timeout": PATIENCE})
    with pytest.raises(AppError, match="steps: expected"):
        organiser.predict(steps=0, api_name="/start_search")
    with pytest.raises(AuthenticationError):
        Client(studio.url, auth=(NAME, "guess"), verbose=False)
    stranger = Client(studio.url, verbose=False, httpx_kwargs={"timeout": PATIENCE})
    with pytest.raises(AppError, match="only its organisers"):
        stranger.predict(api_name="/start_search")


def test_raters_get_no_cookie_and_visitors_get_one(studio: Launched, visitor: httpx.Client) -> None:
    assert VISITOR in visitor.cookies
    again = visitor.get("/")
    assert not any(c.startswith(VISITOR) for c in again.headers.get_list("set-cookie"))
    with studio.client() as client:
        assert client.get("/ballot").status_code == 200
        assert not client.cookies


# limits


def test_visitors_render_until_their_allowance_is_used_up(studio: Launched) -> None:
    ann = Client(studio.url, verbose=False, httpx_kwargs={"timeout": PATIENCE})
    assert ann.cookies[VISITOR]
    spent = 0
    with pytest.raises(AppError, match=r"6 pictures a minute.*Go on in \d+ second"):
        for _ in range(40):  # what comes back while the test renders is spent too
            ann.predict("a red cube", 3, 1, api_name="/compare")
            spent += 3
    assert spent >= MOST_PICTURES
    ann.headers["X-Forwarded-For"] = "203.0.113.9"
    with pytest.raises(AppError, match="pictures a minute"):
        ann.predict("a red cube", 4, 1, api_name="/compare")
    ben = Client(studio.url, verbose=False, httpx_kwargs={"timeout": PATIENCE})
    assert ben.predict("a red cube", 3, 1, api_name="/compare")[0]


@pytest.mark.parametrize(
    "values, words",
    [({"prompt": "x" * 301}, "301 characters"), ({"prompt": "a", "steps": 31}, "31 steps")],
)
def test_what_is_too_large_is_refused(studio: Launched, values: dict, words: str) -> None:
    client = Client(studio.url, verbose=False, httpx_kwargs={"timeout": PATIENCE})
    for name in ("/render", "/compare"):
        with pytest.raises(AppError, match=words):
            client.predict(**values, api_name=name)


def test_the_pages_are_limited_like_the_endpoints(studio: Launched, visitor: httpx.Client) -> None:
    """Compare's private event, called as its page does, with more steps than a public studio renders."""
    [number] = [n for n in studio.indices("on_render") if "Render" in str(_labels(studio, n))][:1]
    values = defaults(studio, number)
    blocks = studio.app.fns[number].inputs
    for at, block in enumerate(blocks):
        if getattr(block, "elem_id", None) == "steps":
            values[at] = 50
    worked, answer = studio.call(visitor, number, values)
    assert not worked and "50 steps were asked for" in str(answer), answer


def _labels(studio: Launched, number: int) -> list[str]:
    ids = [target[0] for target in studio.app.fns[number].targets]
    return [str(getattr(studio.app.blocks.get(i), "value", "")) for i in ids if i is not None]


def test_a_private_studio_has_no_door_of_its_own(host: ModelHost, tmp_path: Path) -> None:
    with launched(tmp_path, host) as private, private.client() as client:
        assert client.get("/").status_code == 200 and VISITOR not in client.cookies
        assert 'name="password"' not in client.get("/signin").text
