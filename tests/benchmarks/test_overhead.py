"""benchmarks/overhead.py runs, and what it compares is what it says. Nothing is timed here."""

from __future__ import annotations

import pytest
import torch

from benchmarks import overhead
from benchmarks.overhead import (
    AIMS,
    Arm,
    Folding,
    Subject,
    compare_forwards,
    forward,
    measure,
    scales_of,
    speed,
)
from tests.tiny import flux_transformer


@pytest.fixture
def subject() -> Subject:
    return Subject(flux_transformer(guidance_embeds=True), side=2, text=3)


def test_each_pair_is_compared_with_its_aim(subject: Subject) -> None:
    before = {name: weight.clone() for name, weight in subject.transformer.state_dict().items()}
    found = compare_forwards(subject, 1, lambda: None)
    assert set(found) == set(AIMS)
    for each in found.values():
        assert each["ratio"] > 0 and each["met"] is (each["ratio"] <= each["aim"])
    assert 1 < found["ensemble of two"]["weights"]["ratio"] < 1.01
    for name, weight in subject.transformer.state_dict().items():
        torch.testing.assert_close(weight, before[name])


def test_folded_and_hooked_are_the_same_model(subject: Subject) -> None:
    scales, call = scales_of(subject, 1)[0], subject.call(2)
    base = forward(subject, call)
    with overhead.hooked(subject, scales):
        expected = forward(subject, call)
    folding = Folding(subject.transformer, scales)
    with folding.on(True):
        torch.testing.assert_close(forward(subject, call), expected)
    folding.leave()
    torch.testing.assert_close(forward(subject, call), base)
    assert (expected - base).abs().max() > 1e-3


def test_both_sides_run_equally_often() -> None:
    runs: list[str] = []
    measure(Arm(lambda: runs.append("A")), Arm(lambda: runs.append("B")), 3, lambda: None)
    assert "".join(runs) == "BAAB" + "ABBA" + "BAAB" + "ABBA"


def test_the_share_of_the_peak_is_reported(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path for a GPU, but for its device."""
    monkeypatch.setattr(type(subject.transformer), "compile_repeated_blocks", lambda self, **_: None)
    found = speed(subject, 1, 1, lambda: None)
    for way in ("not compiled", "compiled"):
        assert found[way]["share_of_the_peak"] > 0
    assert found["operations_of_a_forward"] > 0


def test_a_model_fits_into_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {**overhead.DEV, "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 24}
    monkeypatch.setattr(overhead, "DEV", small)
    model = overhead.flux_shaped(0.05, torch.float32, "cpu")
    size = sum(weight.numel() * 4 for weight in model.parameters())
    blocks = model.config.num_layers
    assert size <= 0.05e9 < overhead._count(blocks + 1, 2 * blocks + 2) * 4
    subject = Subject(model, side=2, text=3)
    assert torch.isfinite(forward(subject, subject.call(1))).all()
    with pytest.raises(SystemExit, match="--memory: expected"):
        overhead.flux_shaped(0.0001, torch.float32, "cpu")
