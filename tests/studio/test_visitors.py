"""Work places of visitors."""

from __future__ import annotations

from studio.visitors import MOST_VISITORS, Visitors


def test_the_same_id_gets_the_same_place() -> None:
    visitors, word = Visitors(), Visitors.new_id()
    assert visitors.of(word) is visitors.of(word)


def test_an_id_that_is_none_gets_a_place_that_is_not_kept() -> None:
    visitors = Visitors()
    for word in (None, "", "x" * 32, ["a"], {"id": 1}, "../etc"):
        assert visitors.of(word) is not visitors.of(word)


def test_new_work_calls_off_older_work_of_its_kind_only() -> None:
    place = Visitors().of(Visitors.new_id())
    first, other = place.begin("preview"), place.begin("compare")
    second = place.begin("preview")
    assert first() and not second() and not other()


def test_stop_calls_off_what_is_under_way() -> None:
    place = Visitors().of(Visitors.new_id())
    cancelled = place.begin("compare")
    place.stop("compare")
    assert cancelled()


def test_the_least_recently_seen_is_forgotten_first() -> None:
    visitors = Visitors()
    words = [Visitors.new_id() for _ in range(MOST_VISITORS)]
    places = [visitors.of(w) for w in words]
    visitors.of(words[0])
    visitors.of(Visitors.new_id())
    assert visitors.of(words[0]) is places[0]
    assert visitors.of(words[1]) is not places[1]
