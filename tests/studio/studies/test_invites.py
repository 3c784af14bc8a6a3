"""Invite links are there again after a reload and a restart; a damaged list stops nothing."""

from __future__ import annotations

import pytest

from studio.studies import commands
from studio.studies.invites import FILE, Invites


def make(world, study: str, **values: int) -> list[str]:
    made = commands.run(world.studies, "invite", {"study": study, **values})
    assert isinstance(made, dict)
    return made["links"]


def test_links_that_were_made_are_listed_again(world) -> None:
    study = world.study(access="invite").id
    first = make(world, study, count=3)
    assert Invites(world.folder).count(study) == 3  # as after a restart
    more = make(world, study, count=2, first=4)
    assert Invites(world.folder).count(study) == 5
    make(world, study, count=1)  # fewer again: none is forgotten
    assert world.studies.invites.count(study) == 5
    code = world.studies.voting.identities.make_invite
    again = [commands.link(study, code(study, number), "ballot") for number in range(1, 6)]
    assert again == [*first, *more]


@pytest.mark.parametrize("content", ["{", "[]", '{"a": -3}', '{"a": true}', '{"a": 1e9}', ""])
def test_a_damaged_list_stops_nothing(world, content: str) -> None:
    study = world.study(access="invite").id
    (world.folder / FILE).write_text(content)
    assert world.studies.invites.count(study) == 0
    make(world, study, count=2)
    assert world.studies.invites.count(study) == 2
