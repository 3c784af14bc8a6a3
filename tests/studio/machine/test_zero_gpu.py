"""ZeroGPU: calls that borrow a GPU. Real pictures of a tiny pipeline, on the processor."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from calibri.backbones.options import LoadOptions
from calibri.calibration.artifact import Member
from calibri.errors import CalibriError, LayoutError, RenderCancelled, RenderError
from calibri.sampling.renderer import Renderer
from calibri.sampling.request import RenderRequest
from studio.machine.host import ModelHost
from studio.machine.queue import HostError, Priority
from studio.machine.rewards import RewardModels
from studio.machine.zero_gpu import LEAST, MOST, LentRenderer, ZeroGpu
from studio.settings import on_zero_gpu
from tests.studio.machine.lending import Lender
from tests.tiny import tiny_backbone

REQUESTS = [RenderRequest("a red cube", seed, 2) for seed in range(3)]


def lend(lender: Lender) -> tuple[Renderer, LentRenderer, ZeroGpu]:
    renderer, gpu = Renderer(tiny_backbone(), batch_size=2), ZeroGpu(lender)
    return renderer, gpu.attach(renderer), gpu


def pixels(rendered) -> list[np.ndarray]:
    return [np.asarray(each.image) for each in rendered]


@pytest.mark.parametrize("forks", [False, True])
def test_a_lent_gpu_paints_the_same_pictures_and_tells_its_steps(forks: bool) -> None:
    lender, steps = Lender(forks=forks), []
    renderer, lent, _ = lend(lender)
    made = lent.render(REQUESTS, on_step=lambda done, total: steps.append((done, total)))
    plain = renderer.render(REQUESTS)
    for one, other in zip(made, plain, strict=True):
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
        assert (one.request, one.nfe) == (other.request, other.nfe)
        assert one.seconds > 0
    assert steps == [(done, 4) for done in (1, 2, 3, 4)]
    assert (os.getpid() in lender.pids) is not forks


def test_what_crosses_between_the_processes_is_plain() -> None:
    crossed: list[object] = []

    def recording(*, duration):
        def decorate(task):
            def call(requests, seconds):
                crossed.extend([requests, seconds])
                for event in task(requests, seconds):
                    crossed.append(event)
                    yield event

            return call

        return decorate

    _, lent, _ = lend(recording)
    member = Member(scales=(1.0,) * len(lent.backbone.sites))
    lent.render([RenderRequest("a red cube", 1, 2, members=(member,))])
    plain = (str, int, float, bytes, type(None))

    def check(value: object) -> None:
        if isinstance(value, list | tuple):
            for each in value:
                check(each)
        elif isinstance(value, RenderRequest | Member):
            for each in vars(value).values():
                check(each)
        else:
            assert isinstance(value, plain), type(value)

    check(crossed)


def test_the_duration_follows_pixels_steps_and_members() -> None:
    lender = Lender()
    _, lent, gpu = lend(lender)
    members = (Member(scales=(1.0,) * len(lent.backbone.sites), weight=0.5),) * 2
    pictures = {
        "plain": RenderRequest("a cube", 1, 2),
        "twice the steps": RenderRequest("a cube", 1, 4),
        "two members": RenderRequest("a cube", 1, 2, members=members),
        "guided": RenderRequest("a cube", 1, 2, guidance=2.0),
        "twice the pixels": RenderRequest("a cube", 1, 2, width=64, height=32),
    }
    # One evaluation of one picture takes 8 s here: 16 s for the plain one.
    gpu._guess = 8 / (32 * 32)
    asked = {}
    for name, request in pictures.items():
        gpu._measured.clear()
        lent.render([request])
        asked[name] = lender.durations[-1]
    plain = asked.pop("plain")
    assert LEAST < plain < min(asked.values())
    assert set(asked.values()) == {plain + 24}  # 1.5 times the 16 s more
    gpu._measured.clear()
    gpu._guess *= 100
    lent.render([pictures["plain"]])
    assert lender.durations[-1] == MOST


def test_the_speed_of_the_last_calls_replaces_the_guess() -> None:
    lender = Lender()
    _, lent, gpu = lend(lender)
    gpu._guess = 1.0
    lent.render(REQUESTS[:1])
    lent.render(REQUESTS[:1])
    assert lender.durations == [MOST, LEAST]


def test_work_for_more_than_a_minute_goes_into_several_calls() -> None:
    lender, steps = Lender(), []
    renderer, lent, gpu = lend(lender)
    gpu._guess = 12 / (32 * 32)  # 24 s a picture
    made = lent.render(REQUESTS, on_step=lambda done, total: steps.append((done, total)))
    assert len(lender.durations) == 2
    assert [each.request.seed for each in made] == [0, 1, 2]
    assert steps == [(done, 4) for done in (1, 2, 3, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(pixels(made), pixels(renderer.render(REQUESTS))))


@pytest.mark.parametrize("forks", [False, True])
def test_a_cancelled_render_leaves_its_call(forks: bool) -> None:
    lender, seen = Lender(forks=forks), []
    _, lent, _ = lend(lender)
    with pytest.raises(RenderCancelled):
        lent.render(
            [RenderRequest("a cube", 1, 200)],
            on_step=lambda done, total: seen.append(done),
            cancel=lambda: bool(seen),
        )
    assert len(seen) < 200 and lender.left == 1
    with pytest.raises(RenderCancelled):
        lent.render(REQUESTS, cancel=lambda: True)
    assert len(lender.durations) == 1  # nothing is asked for what nobody wants


@pytest.mark.parametrize("forks", [False, True])
def test_errors_keep_their_class_and_words(forks: bool) -> None:
    lender = Lender(forks=forks)
    _, lent, _ = lend(lender)
    loud = Member(scales=(1e30,) * len(lent.backbone.sites))
    with pytest.raises(RenderError, match="is not finite"):
        lent.render([RenderRequest("a cube", 1, 2, members=(loud,))])
    asked = len(lender.durations)
    with pytest.raises(LayoutError, match="expected"):
        lent.render([RenderRequest("a cube", 1, 2, members=(Member(scales=(1.0,)),))])
    assert len(lender.durations) == asked  # no quota is spent on what cannot be rendered


def test_a_gpu_that_is_not_lent_is_a_sentence() -> None:
    import gradio as gr

    def refusing(*, duration):
        def decorate(task):
            def call(*args):
                raise gr.Error("You have exceeded your free ZeroGPU quota", title="ZeroGPU quota exceeded")
                yield

            return call

        return decorate

    _, lent, _ = lend(refusing)
    with pytest.raises(HostError, match="ZeroGPU quota exceeded: You have exceeded your free ZeroGPU quota"):
        lent.render(REQUESTS)


def test_a_host_on_zero_gpu_loads_once_in_the_calling_thread_and_paints_by_its_calls(
    tiny_folder: Path,
) -> None:
    lender, loaded_in = Lender(), []

    def loader(name: str, options: LoadOptions):
        from calibri.backbones.loading import load_backbone

        loaded_in.append(threading.current_thread())
        return load_backbone(name, device="cpu")

    host = ModelHost(loader=loader, lent=ZeroGpu(lender))
    host.load(str(tiny_folder))
    assert loaded_in == [threading.current_thread()]
    assert (host.status.phase, host.status.device) == ("ready", "ZeroGPU")
    with pytest.raises(HostError, match="CALIBRI_BACKBONE"):
        host.load(str(tiny_folder))
    # What the studio renders by itself, in threads of its own, borrows the GPU too.
    made: list[object] = []
    worker = threading.Thread(
        target=lambda: made.extend(host.render(REQUESTS, priority=Priority.STUDY)), name="render-study"
    )
    worker.start()
    worker.join(60)
    assert len(made) == len(REQUESTS) and lender.threads == {"render-study"}


def test_rewards_under_pictures_lie_on_the_processor_where_the_gpu_is_lent() -> None:
    asked: list[tuple[str, str]] = []

    def loader(name: str, device: str):
        asked.append((name, device))
        raise CalibriError("none here")

    backbone = tiny_backbone()
    backbone.spec = backbone.spec.model_copy(update={"name": "tabletop"})
    RewardModels(loader, shown_on="cpu:7").warm(backbone)
    assert asked and {device for _, device in asked} == {"cpu:7"}


def test_the_hub_says_in_the_environment_whether_gpus_are_lent() -> None:
    assert [on_zero_gpu({"SPACES_ZERO_GPU": word}) for word in ("true", "1", "T", "false", "")] == [
        True,
        True,
        True,
        False,
        False,
    ]
