"""ModelHost: another backbone, searches that keep the present one, and memory that runs out."""

from __future__ import annotations

import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from calibri.backbones.options import LoadOptions
from calibri.errors import BackboneError, CalibriError, RenderError
from calibri.sampling.request import RenderRequest
from calibri.words import without_paths
from studio.core import Core
from studio.machine import host as hosting
from studio.machine.host import Memory, ModelHost, _load_backbone
from studio.machine.queue import HostError
from studio.scales.edits import get_desk, get_place
from studio.settings import Settings
from studio.shell.model_bar import downloaded, offered, switch, words
from tests.studio.asking import request_of
from tests.studio.conftest import load_host, make_core

REQUESTS = [RenderRequest("a red cube", seed, 2) for seed in range(4)]


def pixels(rendered) -> list[np.ndarray]:
    return [np.asarray(each.image) for each in rendered]


# memory that runs out


@pytest.fixture
def fresh(tiny_folder: Path) -> ModelHost:
    return load_host(tiny_folder)


def begin_load(folder: Path) -> tuple[ModelHost, threading.Event]:
    """A host that loads the backbone of this folder once the event is set."""
    go = threading.Event()

    def loader(name: str, options: LoadOptions):
        assert go.wait(60)
        return _load_backbone(name, options)

    host = ModelHost(device="cpu", loader=loader)
    host.load(str(folder))
    return host, go


def shortage(host: ModelHost, rows: int, error: type[BaseException], words: str) -> tuple[list[int], object]:
    """The transformer fails for batches of more than `rows`, as it does where the memory ends."""
    seen: list[int] = []

    def hook(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        count = (kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]).shape[0]
        seen.append(count)
        if count > rows:
            raise error(words)

    transformer = host.wait_ready().transformer
    return seen, transformer.register_forward_pre_hook(hook, with_kwargs=True)


SHORTAGES = [
    (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB."),
    (RuntimeError, "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error, said", SHORTAGES)
def test_the_batch_is_halved_until_it_fits_and_the_pictures_are_the_same(
    fresh: ModelHost, error: type[BaseException], said: str
) -> None:
    whole = pixels(fresh.render(REQUESTS))
    seen, hook = shortage(fresh, 1, error, said)
    halved = pixels(fresh.render(REQUESTS))
    hook.remove()
    assert [n for n in seen if n > 1] == [4, 2] and fresh.batch_size == 1
    for a, b in zip(whole, halved):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


@pytest.mark.parametrize("error, said", SHORTAGES)
def test_one_picture_that_does_not_fit_is_a_sentence_and_the_host_lives_on(
    fresh: ModelHost, error: type[BaseException], said: str
) -> None:
    _, hook = shortage(fresh, 0, error, said)
    with pytest.raises(CalibriError, match=r"memory.*smaller size") as raised:
        fresh.render(REQUESTS)
    assert isinstance(raised.value, HostError | RenderError)
    hook.remove()
    assert len(fresh.render(REQUESTS)) == 4
    assert fresh.status.phase == "ready" and not fresh.status.activity


def test_a_load_brings_the_batch_size_back(fresh: ModelHost, tiny_folder: Path) -> None:
    _, hook = shortage(fresh, 1, *SHORTAGES[0])
    fresh.render(REQUESTS)
    hook.remove()
    fresh.load(str(tiny_folder), wait=True)
    assert fresh.batch_size == 4


def test_a_backbone_that_does_not_fit_is_a_sentence_and_another_can_be_loaded(tiny_folder: Path) -> None:
    def loader(name: str, options: LoadOptions):
        if name == "FLUX.1-dev":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return _load_backbone(name, options)

    host = ModelHost(device="cpu", loader=loader)
    with pytest.raises(HostError, match=r"FLUX.1-dev does not fit into the memory.*smaller one"):
        host.load("FLUX.1-dev", wait=True)
    host.load(str(tiny_folder), wait=True)
    assert len(host.render(REQUESTS[:1])) == 1


def test_a_load_that_the_end_cuts_off_is_waited_for_and_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    begun, ended = threading.Event(), threading.Event()

    def loader(name: str, options: LoadOptions):
        begun.set()
        assert ended.wait(60)
        raise RuntimeError("torch is half taken apart")

    host = ModelHost(device="cpu", loader=loader)
    host.load("FLUX.1-dev")
    assert begun.wait(60)
    closing = threading.Thread(target=host.close)
    closing.start()
    while not host._background.closed:
        time.sleep(0.01)
    assert closing.is_alive(), "expected `close` to wait for the load"
    ended.set()
    closing.join(60)
    assert not closing.is_alive() and not caplog.records and host.status.phase == "loading"


# another backbone


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny import tiny_flux

    folder = tmp_path_factory.mktemp("private place") / "other"
    tiny_flux(folder, doubles=1, singles=2)
    defaults = (folder / "calibri.json").read_text(encoding="utf-8")
    (folder / "calibri.json").write_text(defaults.replace('"tiny"', '"other"'), encoding="utf-8")
    return folder


@pytest.fixture
def own(fresh: ModelHost, tmp_path: Path) -> Core:
    return make_core(fresh, tmp_path)


def test_the_old_backbone_is_gone_before_the_new_one_is_read(tiny_folder: Path, other_folder: Path) -> None:
    before: list[bool] = []
    old: list[weakref.ref] = []

    def loader(name: str, options: LoadOptions):
        before.extend(ref() is None for ref in old)
        made = _load_backbone(name, options)
        old.append(weakref.ref(made.transformer))
        return made

    host = ModelHost(device="cpu", loader=loader)
    host.load(str(tiny_folder), wait=True)
    host.render(REQUESTS[:1])
    host.load(str(other_folder), wait=True)
    assert before == [True]
    assert host.status.backbone == "other" and host.status.loads == 2


def test_a_switch_changes_layout_desk_and_bar(own: Core, other_folder: Path, visitor: str) -> None:
    place = get_place(own, visitor)
    before = get_desk(own, place, "block").layout
    assert words(own, None, visitor)[0] == f"{len(before.names)} scales, one a block"
    assert "loading" in switch(own, str(other_folder), None)
    own.host.wait_ready()
    after = get_desk(own, place)
    assert after.layout.granularity == "block" and after.layout.names != before.names
    assert words(own, None, visitor)[0] == "3 scales, one a block"
    assert len(own.host.render(REQUESTS[:1])) == 1


def test_what_was_loaded_once_is_offered_by_name(own: Core, other_folder: Path) -> None:
    switch(own, str(other_folder), None)
    own.host.wait_ready()
    assert {"tiny", "other", "tabletop"} <= set(offered(own))
    switch(own, "tiny", None)
    assert own.host.wait_ready().spec.name == "tiny"


def test_no_switch_while_a_search_runs(own: Core, other_folder: Path) -> None:
    with own.host.reserve("the search “Layer”"):
        with pytest.raises(HostError, match="cannot be changed while the search “Layer” runs"):
            switch(own, str(other_folder), None)
        assert own.host.status.backbone == "tiny" and own.host.status.phase == "ready"


def test_no_switch_while_another_is_under_way(tiny_folder: Path, other_folder: Path) -> None:
    host, go = begin_load(tiny_folder)
    with pytest.raises(HostError, match="tiny is still loading"):
        host.load(str(other_folder))
    go.set()
    assert host.wait_ready().spec.name == "tiny"


@pytest.mark.parametrize("name", ["", "  ", None, 7, "tabeltop", "no such place"])
def test_what_is_no_backbone_leaves_the_loaded_one(own: Core, name: object) -> None:
    with pytest.raises(CalibriError, match=r"expected|Expected"):
        switch(own, name, None)
    assert own.host.status.phase == "ready" and own.host.status.loads == 1


def test_the_loaded_one_is_not_loaded_again(own: Core) -> None:
    with pytest.raises(HostError, match="tiny is loaded already"):
        switch(own, "tiny", None)


def test_no_absolute_path_in_what_is_said(own: Core, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BackboneError) as raised:
        switch(own, str(empty), None)
    assert str(tmp_path) not in str(raised.value) and "empty holds no diffusers pipeline" in str(raised.value)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"_class_name": "FluxPipeline"}', encoding="utf-8")
    switch(own, str(broken), None)
    own.host.wait_ready()
    assert "broken was not loaded" in own.host.status.detail
    assert str(tmp_path) not in repr(own.host.status)
    assert not any("/" in name and name.startswith("/") for name in offered(own))


def test_only_organisers_load_what_is_not_in_the_list_where_others_can_reach(
    own: Core, other_folder: Path
) -> None:
    import dataclasses

    reached = dataclasses.replace(own, settings=Settings(host="0.0.0.0", auth="ann:x"))
    with pytest.raises(HostError, match="only its organisers"):
        switch(reached, str(other_folder), None)
    public = dataclasses.replace(own, settings=Settings(demo=True, auth="ann:x"))
    with pytest.raises(CalibriError, match="only its organisers"):
        switch(public, "tabletop", None)
    assert own.host.status.loads == 1
    switch(public, str(other_folder), request_of(public, "ann"))
    assert own.host.wait_ready().spec.name == "other"


@pytest.mark.parametrize(
    "text, clean",
    [
        ("/srv/data/tiny holds nothing", "tiny holds nothing"),
        ("error in '/srv/data/x.json': bad", "error in 'x.json': bad"),
        ("black-forest-labs/FLUX.1-dev cannot be loaded", "black-forest-labs/FLUX.1-dev cannot be loaded"),
        ("see https://huggingface.co/docs/hub", "see https://huggingface.co/docs/hub"),
        ("~/models/mine is missing", "mine is missing"),
        ("1/2 of it, and/or more", "1/2 of it, and/or more"),
    ],
)
def test_paths_are_cut_to_their_last_part(text: str, clean: str) -> None:
    assert without_paths(text) == clean


def test_downloaded_bytes_are_counted(tmp_path: Path) -> None:
    blobs = tmp_path / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "a").write_bytes(b"x" * 10)
    (blobs / "b.incomplete").write_bytes(b"x" * 5)
    assert downloaded("owner/name", tmp_path) == 15
    assert downloaded("owner/other", tmp_path) == 0


# the memory in the bar


def test_the_memory_shown_stays_while_little_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    used = 2.04e9
    monkeypatch.setattr(hosting, "memory_in_use", lambda: (used, ""))
    memory = Memory()
    assert memory.words() == "2 GB"
    for used in (2.06e9, 1.97e9, 2.1e9, 2.0e9):  # noqa: B007
        assert memory.words() == "2 GB"
    used = 2.4e9
    assert memory.words() == "2.4 GB"
    used = 23.7e9
    assert memory.words() == "24 GB"


def test_the_memory_of_this_process_is_measured(fresh: ModelHost) -> None:
    assert fresh.status.memory.endswith("GB") or "GPU" in fresh.status.memory
    assert 1e8 < hosting.memory_in_use()[0] < 1e12


def test_the_bar_says_how_far_a_load_is(tiny_folder: Path) -> None:
    host, go = begin_load(tiny_folder)
    end = time.monotonic() + 30
    while host.status.detail != "reading its weights":
        assert time.monotonic() < end
        time.sleep(0.01)
    assert host.status.phase == "loading"
    go.set()
    host.wait_ready()
    assert host.status.detail == ""
