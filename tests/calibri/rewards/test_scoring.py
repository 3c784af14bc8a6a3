"""How requests are cut into batches: all of them, in order, evenly."""

import pytest

from calibri.rewards.scoring import batches


@pytest.mark.parametrize(
    ("count", "size", "lengths"),
    [(0, 4, []), (3, 4, [3]), (4, 4, [4]), (5, 4, [2, 3]), (52, 13, [13] * 4), (52, 32, [26, 26])],
)
def test_batches_are_few_and_even(count, size, lengths):
    found = batches(list(range(count)), size)
    assert [len(batch) for batch in found] == lengths
    assert [request for batch in found for request in batch] == list(range(count))
