"""Desks that a restart does not lose: kept on the disk after every edit, for their visitor and backbone."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gradio.context import LocalContext

from calibri.calibration.artifact import Member
from studio.access.signin import VISITOR
from studio.core import Core
from studio.machine.host import ModelHost
from studio.scales.desk import Desk
from studio.scales.edits import (
    add_member,
    change,
    change_member,
    discard_draft,
    find_desk,
    get_desk,
    get_place,
    open_saved,
    set_granularity,
    take_move,
)
from studio.scales.store import (
    DAMAGED,
    FOLDER,
    FORMAT,
    LARGEST,
    MOST_BACKBONES,
    Bounds,
    DeskDraft,
    DraftError,
    DraftStore,
)
from studio.scales.view import show_desk, write_notice
from studio.settings import Settings
from studio.shell.app import open_leftovers
from studio.visitors import Visitors
from tests.browser.running import ROOT
from tests.studio.asking import request_of
from tests.studio.conftest import load_host, make_core

VALUES = [0.7 + 0.1 * i for i in range(7)]


def restart(core: Core) -> Core:
    """Another studio on the same data folder: nothing of it is in memory."""
    return make_core(core.host, core.settings.data.parent)


def desk(core: Core, visitor: str) -> Desk:
    return get_desk(core, get_place(core, visitor))


def list_files(core: Core) -> list[Path]:
    return sorted((core.settings.data / FOLDER).glob("*.json"))


def make_draft(backbone: str = "tiny", saved: float = 1.0, scales: int = 3, members: int = 1) -> DeskDraft:
    vector = Member(scales=tuple(1 + i / 7 for i in range(scales)))
    return DeskDraft(
        backbone=backbone, layout="x", granularity="gate", saved=saved, members=(vector,) * members, at=0
    )


def test_a_desk_is_there_after_a_restart_and_says_so(core: Core, visitor: str) -> None:
    take_move(core, visitor, {"values": VALUES, "sent": 1, "member": 0})
    assert write_notice(get_place(core, visitor)) == ""
    later = restart(core)
    assert desk(later, visitor).values == tuple(VALUES)
    place = get_place(later, visitor)
    assert abs(place.notice.brought - time.time()) < 60
    words = show_desk(later, place)[5]
    assert "brought back" in words and time.strftime("%H:") in words and "Discard" in words
    assert desk(later, Visitors.new_id()).values == (1.0,) * 7
    change(later, visitor, lambda d: d)  # Render is no edit
    assert "brought back" in write_notice(place)
    change(later, visitor, lambda d: d.strengthen(0.5))
    assert write_notice(place) == ""


def test_members_the_one_in_hand_and_the_granularity_come_back(stocked: Core, visitor: str) -> None:
    open_saved(stocked, visitor, "studio/pair")
    add_member(stocked, visitor)
    change_member(stocked, visitor, 2, lambda d: d.place(0.1, 0.5).weigh(-0.25))
    before = set_granularity(stocked, visitor, "gate")
    again = desk(restart(stocked), visitor)
    assert (again.members, again.at, again.layout) == (before.members, 2, before.layout)
    assert not again.past


def test_other_pages_know_the_draft_before_the_desk_is_opened(core: Core, visitor: str) -> None:
    from studio.rendering.places import desk_calibration

    change(core, visitor, lambda d: d.set(VALUES))
    later = restart(core)
    assert find_desk(later, Visitors.new_id()) is None
    assert find_desk(later, visitor) is not None
    found = desk_calibration(later.visitors.of(visitor), "tiny")
    assert found is not None and found.members[0].scales == tuple(VALUES)


def test_a_draft_comes_back_on_its_own_backbone_alone(core: Core, visitor: str, tmp_path: Path) -> None:
    from tests.tiny import tiny_flux

    change(core, visitor, lambda d: d.set(VALUES))
    tiny_flux(tmp_path / "other", doubles=1, singles=2)  # with the same name and other scales
    other = make_core(load_host(tmp_path / "other"), tmp_path)
    assert desk(other, visitor).values == (1.0,) * 4
    change(other, visitor, lambda d: d.set([0.5] * 4))
    assert len(list_files(core)) == 1
    assert desk(restart(core), visitor).values == tuple(VALUES)
    assert desk(restart(other), visitor).values == (0.5,) * 4


def test_the_same_scales_on_other_weights_are_another_draft(core: Core, visitor: str, tmp_path: Path) -> None:
    from tests.tiny import tiny_flux

    change(core, visitor, lambda d: d.set(VALUES))
    tiny_flux(tmp_path / "other")
    facts = tmp_path / "other" / "calibri.json"
    facts.write_text(facts.read_text(encoding="utf-8").replace('"tiny"', '"other"'), encoding="utf-8")
    other = make_core(load_host(tmp_path / "other"), tmp_path)
    assert other.backbone_name == "other" and desk(other, visitor).values == (1.0,) * 7


def test_a_discarded_draft_is_gone_and_undo_brings_it_back(core: Core, visitor: str) -> None:
    change(core, visitor, lambda d: d.set(VALUES))
    later = restart(core)
    assert desk(later, visitor).values == tuple(VALUES)
    made, remark = discard_draft(later, visitor)
    assert set(made.values) == {1.0} and "Undo" in remark and write_notice(get_place(later, visitor)) == ""
    assert list_files(later) == []
    assert desk(restart(later), visitor).values == (1.0,) * 7
    change(later, visitor, Desk.undo)
    assert desk(restart(later), visitor).values == tuple(VALUES)


def test_a_desk_that_nobody_moved_leaves_no_file(core: Core, visitor: str) -> None:
    change(core, visitor, lambda d: d)
    assert not (core.settings.data / FOLDER).exists()
    change(core, visitor, lambda d: d.set(VALUES))
    change(core, visitor, Desk.reset)
    assert list_files(core) == []


@pytest.mark.parametrize("nobody", [None, "", "../../etc", 7])
def test_who_has_no_id_leaves_nothing(core: Core, nobody: object) -> None:
    change(core, nobody, lambda d: d.set(VALUES))
    assert not (core.settings.data / FOLDER).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", f'{{"format": "{FORMAT}", "drafts": 3}}', "\0"])
def test_a_damaged_file_is_put_aside_and_hides_no_other(core: Core, content: str) -> None:
    ann, ben = Visitors.new_id(), Visitors.new_id()
    change(core, ann, lambda d: d.set(VALUES))
    [path] = list_files(core)
    change(core, ben, lambda d: d.set([0.9] * 7))
    path.write_text(content, encoding="utf-8")
    later = restart(core)
    assert desk(later, ann).values == (1.0,) * 7
    change(later, ann, lambda d: d)
    words = write_notice(get_place(later, ann))
    assert "put aside" in words and str(core.settings.data) not in words
    assert desk(later, ben).values == (0.9,) * 7
    aside = core.settings.data / FOLDER / DAMAGED / path.name
    assert aside.read_text(encoding="utf-8") == content and not path.exists()
    change(later, ann, lambda d: d.set(VALUES))
    assert desk(restart(later), ann).values == tuple(VALUES)


def test_one_bad_draft_of_a_file_leaves_the_others(core: Core, visitor: str) -> None:
    change(core, visitor, lambda d: d.set(VALUES))
    [path] = list_files(core)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["drafts"].append({**content["drafts"][0], "backbone": "else", "members": [{"scales": ["x"]}]})
    path.write_text(json.dumps(content), encoding="utf-8")
    assert desk(restart(core), visitor).values == tuple(VALUES)
    assert (core.settings.data / FOLDER / DAMAGED / path.name).exists() and list_files(core) == [path]


def test_scales_that_the_desk_cannot_hold_are_no_draft(core: Core, visitor: str) -> None:
    change(core, visitor, lambda d: d.set(VALUES))
    [path] = list_files(core)
    path.write_text(path.read_text(encoding="utf-8").replace("0.7,", "1e9,"), encoding="utf-8")
    later = restart(core)
    assert desk(later, visitor).values == (1.0,) * 7
    assert "expected a scale" in write_notice(get_place(later, visitor))


def test_a_folder_that_cannot_be_written_is_said_and_the_edit_counts(core: Core, visitor: str) -> None:
    core.settings.data.mkdir(parents=True, exist_ok=True)
    (core.settings.data / FOLDER).write_text("in the way", encoding="utf-8")
    assert change(core, visitor, lambda d: d.set(VALUES)).values == tuple(VALUES)
    assert "A restart will lose this desk" in write_notice(get_place(core, visitor))


# bounds


def test_the_files_changed_longest_ago_make_room(tmp_path: Path) -> None:
    store = DraftStore(tmp_path, Bounds(3, 1e9, 2**20))
    for number in range(5):
        store.keep(f"visitor {number}", make_draft(saved=time.time()))
        for age, path in enumerate(sorted(tmp_path.glob("*.json"), key=lambda p: p.stat().st_mtime)):
            os.utime(path, (1000 + age, 1000 + age))  # a clock may not tell quick writes apart
    kept = [n for n in range(5) if store.find(f"visitor {n}", "tiny", "x") is not None]
    assert kept == [2, 3, 4]


def test_an_old_draft_does_not_come_back(tmp_path: Path) -> None:
    now = [1000.0]
    store = DraftStore(tmp_path, Bounds(9, 60.0, 2**20), clock=lambda: now[0])
    store.keep("ann", make_draft(saved=1000.0))
    now[0] += 59
    assert store.find("ann", "tiny", "x") is not None
    now[0] += 2
    assert store.find("ann", "tiny", "x") is None


def test_a_file_stays_small(tmp_path: Path) -> None:
    store = DraftStore(tmp_path, clock=lambda: 5.0)
    for number in range(MOST_BACKBONES + 2):
        store.keep("ann", make_draft(f"backbone {number}", saved=float(number)))
    assert store.find("ann", "backbone 1", "x") is None and store.find("ann", "backbone 2", "x") is not None
    for number in range(3):
        store.keep("ann", make_draft(f"large {number}", scales=500, members=6))
    [path] = tmp_path.glob("*.json")
    assert path.stat().st_size <= LARGEST
    assert store.find("ann", "large 2", "x") is not None and store.find("ann", "large 0", "x") is None
    with pytest.raises(DraftError, match=f"at most {LARGEST} bytes"):
        store.keep("ann", make_draft("huge", scales=2000, members=8))
    assert store.find("ann", "large 2", "x") is not None


def test_the_sweep_of_leftovers_knows_the_drafts(tmp_path: Path) -> None:
    for demo in (False, True):
        settings = Settings(data=tmp_path, demo=demo, auth="ann:x" if demo else "")
        [shelf] = [s for s in open_leftovers(settings).shelves if s.folder == tmp_path / FOLDER]
        assert shelf.kept == (14 if demo else 90) * 24 * 3600 and shelf.most <= 64 * 2**20


def test_a_public_studio_keeps_few_desks_of_one_browser_and_none_of_strangers(core: Core) -> None:
    settings = core.settings.model_copy(update={"demo": True, "auth": "ann:x"})
    demo = dataclasses.replace(core, settings=settings)
    cookie = f"{VISITOR}={demo.signin.new_visitor()}"

    def edit(visitor: str, **headers: str) -> str:
        token = LocalContext.request.set(request_of(**headers))
        try:
            change(demo, visitor, lambda d: d.set(VALUES))
        finally:
            LocalContext.request.reset(token)
        return write_notice(get_place(demo, visitor))

    assert "no cookie" in edit(Visitors.new_id())
    assert list_files(demo) == []
    told = [edit(Visitors.new_id(), cookie=cookie) for _ in range(6)]
    assert told[:4] == [""] * 4 and all("A restart will lose this desk" in words for words in told[4:])
    assert len(list_files(demo)) == 4


# a process that is killed

WRITER = """
import sys, time
from pathlib import Path
from calibri.calibration.artifact import Member
from studio.scales.store import DeskDraft, DraftStore
store, vector = DraftStore(Path(sys.argv[1])), Member(scales=[1 + i / 7 for i in range(240)])
fixed = dict(backbone="tiny", layout="x", granularity="gate", members=(vector,) * 8, at=0)
for number in range(10**6):
    store.keep("ann", DeskDraft(saved=time.time() + number, **fixed))
"""


def test_kill_minus_9_leaves_a_whole_draft(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT)
    try:
        end = time.monotonic() + 120
        while not list(tmp_path.glob("*.json")):
            assert writer.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait(20)
    found = DraftStore(tmp_path).find("ann", "tiny", "x")
    assert found is not None and len(found.members) == 8 and len(found.members[0].scales) == 240
    assert not (tmp_path / DAMAGED).exists()


def test_a_desk_outlives_the_visitors_that_memory_forgets(core: Core, visitor: str, host: ModelHost) -> None:
    import studio.visitors

    change(core, visitor, lambda d: d.set(VALUES))
    for _ in range(studio.visitors.MOST_VISITORS + 1):
        core.visitors.of(Visitors.new_id())
    assert desk(core, visitor).values == tuple(VALUES)
