"""Work places of visitors."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from calibri.errors import CalibriError
from studio import visitors as visitors_module
from studio.visitors import MOST_VISITORS, Visitor, Visitors


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


class Mine:
    """What a page keeps of a visitor."""


class Derived(Mine):
    pass


def test_each_class_has_one_object_for_each_visitor() -> None:
    one, other = Visitor("one"), Visitor("other")
    assert one.place(Mine) is one.place(Mine)
    assert one.place(Mine) is not other.place(Mine)
    assert type(one.place(Derived)) is Derived and one.place(Derived) is not one.place(Mine)


def test_many_at_once_get_the_same_object() -> None:
    place, start = Visitor("one"), threading.Barrier(8)

    def ask(_: int) -> Mine:
        start.wait()
        return place.place(Mine)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_what_was_made_is_found_by_a_class_it_derives_from() -> None:
    place = Visitor("one")
    assert place.find_place(Mine) is None
    made = place.place(Derived)
    assert place.find_place(Mine) is made


def test_the_least_recently_seen_is_forgotten_first() -> None:
    visitors = Visitors()
    words = [Visitors.new_id() for _ in range(MOST_VISITORS)]
    places = [visitors.of(w) for w in words]
    visitors.of(words[0])
    visitors.of(Visitors.new_id())
    assert visitors.of(words[0]) is places[0]
    assert visitors.of(words[1]) is not places[1]


class Heavy:
    """A place that tells what it keeps."""

    size = 400


def test_what_all_keep_together_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors_module, "MOST_BYTES", 1000)
    visitors = Visitors()
    words = [Visitors.new_id() for _ in range(4)]
    places = [visitors.of(w) for w in words]
    for place in places[1:3]:
        place.place(Heavy)
    visitors.trim(words[2])
    assert [visitors.of(w) is p for w, p in zip(words, places)] == [True] * 4
    places[3].place(Heavy)
    visitors.trim(words[1])  # who keeps nothing makes no room, and the one that works stays
    assert [visitors.of(w) is p for w, p in zip(words, places)] == [True, True, False, True]


def test_an_id_that_is_none_is_told() -> None:
    Visitors.check_id(Visitors.new_id())
    for word in (None, "", 3, ["a"]):
        with pytest.raises(CalibriError, match="Reload the page"):
            Visitors.check_id(word)
