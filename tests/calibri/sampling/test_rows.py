"""Members of all images in one forward."""

import pytest
import torch

from calibri.errors import RenderError
from calibri.sampling.ensemble import Rows, member_rows


def test_rows_lie_member_by_member():
    rows = Rows.of([[3.0, -2.0], [0.5, 0.5], [1.0]])
    assert rows.counts == (3, 2)
    assert rows.order == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    assert rows.weights == (3.0, 0.5, 1.0, -2.0, 0.5)


def test_combining_is_the_weighted_sum_of_each_image():
    rows = Rows.of([[3.0, -2.0], [1.0]])
    x = torch.tensor([[1.0], [10.0], [100.0]])
    assert rows.combine(x).tolist() == [[3.0 - 200.0], [10.0]]


def test_one_member_of_weight_one_passes_unchanged():
    rows = Rows.of([[1.0], [1.0]])
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert rows.is_plain
    assert torch.equal(rows.combine(x), x)


def test_lists_are_repeated_as_tensors_are():
    assert Rows.of([[1.0, 1.0], [1.0]]).repeat(["a", "b"]) == ["a", "b", "a"]


@pytest.mark.parametrize("weights", [[], [[]], [[1.0], [1.0, 2.0]]])
def test_impossible_rows_are_refused(weights):
    with pytest.raises(RenderError):
        Rows.of(weights)


def test_hooks_are_gone_after_an_exception(backbone):
    model = backbone.transformer
    before = len(model._forward_hooks), len(model._forward_pre_hooks)
    rows = Rows.of([[1.0, 1.0]])
    with pytest.raises(ZeroDivisionError), member_rows(model, rows, ("hidden_states",), {}):
        raise ZeroDivisionError
    assert (len(model._forward_hooks), len(model._forward_pre_hooks)) == before


def test_a_call_without_the_batched_arguments_is_an_error(backbone, flux_inputs):
    rows = Rows.of([[1.0, 1.0]] * 3)
    with (
        pytest.raises(RenderError, match="nothing_of_this_name"),
        member_rows(backbone.transformer, rows, ("nothing_of_this_name",), {}),
    ):
        backbone.transformer(**flux_inputs(3))
