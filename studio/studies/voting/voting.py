"""The rater's side of a study: consent, showings, votes, undo. No Gradio.

Every step is one job of the database's writer, so two clicks, two tabs or two hundred raters cannot overtake
each other. The `View` that leaves this module for a browser never says which arm is on which side, nor which
pair is a check.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random, SystemRandom
from typing import Any

from studio.studies.protocol import QUICK, Protocol
from studio.studies.storage.database import Database, Transaction
from studio.studies.storage.invite_store import InviteStore
from studio.studies.storage.panel_store import note_ids, thank
from studio.studies.storage.picture_store import ImageStore
from studio.studies.storage.study_store import PAIR_COLUMNS, StudyPair, StudyStore, now
from studio.studies.storage.vote_store import add_event
from studio.studies.voting.ballots import (
    LONGEST_MS,
    Refused,
    View,
    find_winner,
    make_ballot,
    make_pause,
    read_answers,
    read_comment,
    read_milliseconds,
    read_token,
)
from studio.studies.voting.dealing import Book, Showing
from studio.studies.voting.guests import Guests
from studio.studies.voting.identity import Identities, Who
from studio.studies.voting.own_result import tell_own_result
from studio.studies.voting.pictures import ShownPictures

SLACK = 0.9  # of the least viewing time: clocks of browsers and servers run a little apart
AHEAD = 2  # the pair on screen and the next one, whose pictures the browser loads meanwhile
NO_STUDY = "There is no such study, or it is not open yet."
KEPT_IDS = "The id that your panel gave you is kept apart from your answers, so that you can be paid."


class Voting:
    """Deals pairs and takes votes. `key()`: the secret bytes of the data folder."""

    def __init__(
        self,
        db: Database,
        studies: StudyStore,
        images: ImageStore,
        key: Callable[[], bytes],
        *,
        clock: Callable[[], datetime] = now,
        random: Random | None = None,
        on_vote: Callable[[str], None] = lambda study: None,
        on_lost: Callable[[str, str], None] = lambda study, sha256: None,
    ) -> None:
        self.db, self.studies = db, studies
        self.pictures, self.identities = ShownPictures(db, images, on_lost), Identities(key)
        self.guests = Guests(InviteStore(db), clock)
        self._clock, self._random, self._on_vote = clock, random or SystemRandom(), on_vote
        self._books: dict[str, Book] = {}  # used by the writer thread only
        self._protocols: dict[str, Protocol] = {}
        db.on_rollback = self._books.clear

    def recognise(
        self, study: str, identity: object, invite: object = None, hub: object = None, panel: object = None
    ) -> Who:
        """The rater behind what a browser sent. Raises Refused where the study asks for more."""
        asked = self._protocol(study)
        who = self.identities.recognise(study, asked.access, identity, invite, hub, asked.panel, panel)
        return self.guests.admit(study, who)

    def _protocol(self, study: str) -> Protocol:
        """A study's protocol never changes, so it is read once."""
        if study not in self._protocols:
            rows = self.db.read("SELECT protocol FROM studies WHERE id = ?", [study])
            if not rows:
                raise Refused("study", NO_STUDY)
            self._protocols[study] = Protocol.model_validate_json(rows[0][0])
        return self._protocols[study]

    # what a rater sees

    def look(self, study: str, who: Who) -> View:
        """The rater's place in the study: the welcome, the pairs to vote on, or the end."""
        rater = self.identities.hash_rater(study, who)

        def work(t: Transaction) -> View:
            note_ids(t, study, rater, who.panel)  # a new visit may bring new ones
            return self._view(t, study, rater)

        return self.db.write(work)

    def has_joined(self, study: str, who: Who) -> bool:
        """Whether this rater takes part already."""
        found = "SELECT 1 FROM raters WHERE id = ? AND study = ?"
        return bool(self.db.read(found, [self.identities.hash_rater(study, who), study]))

    def consent(self, study: str, who: Who) -> View:
        """Note that the rater agrees to take part, and deal. A second time changes nothing."""
        rater = self.identities.hash_rater(study, who)

        def work(t: Transaction) -> View:
            book = self._open_book(t, study)
            kind = "anonymous" if who.kind == "panel" else who.kind  # tables of before know no other word
            row = {"id": rater, "study": study, "kind": kind, "consented": self._clock()}
            t.insert("raters", [row], if_new=True)
            note_ids(t, study, rater, who.panel)
            book.consented.add(rater)
            return self._next(t, book, rater)

        return self.db.write(work)

    def _view(self, t: Transaction, study: str, rater: str, **more: Any) -> View:
        book = self._book(t, study)
        if book is None:
            text = "This study is closed. Your votes are kept. Thank you!"
            name = t.read("SELECT name FROM studies WHERE id = ?", [study])[0][0]
            more |= thank(t, self._protocol(study).panel, study, rater)
            return View("end", study, name, text=text, **more)
        if not book.has_consent(rater):
            protocol = book.protocol
            more |= {"text": protocol.instruction, "total": book.total_for(rater)}
            consent = protocol.consent + (f" {KEPT_IDS}" if protocol.panel is not None else "")
            return View("welcome", study, book.name, consent=consent, **more)
        return self._next(t, book, rater, **more)

    def _next(self, t: Transaction, book: Book, rater: str, **more: Any) -> View:
        showings = self._deal(t, book, rater)
        done = len(book.raters[rater].voted)
        wait = None if showings else book.find_wait(rater, self._clock())
        if wait is not None:
            return make_pause(book.study, book.name, wait, done=done, can_undo=done > 0, **more)
        if not showings:
            text = "You have voted on all your pairs. Thank you!"
            if book.protocol.own_result and done:
                more["result"] = tell_own_result(t, book.study, rater, book.protocol)
            finished = self._clock() if done else None
            more |= thank(t, book.protocol.panel, book.study, rater, finished)
            return View("end", book.study, book.name, done, done, can_undo=done > 0, text=text, **more)
        shown = tuple({"token": s.token, "prompt": s.pair.prompt} for s in showings)
        total = max(book.total_for(rater), done + len(showings))
        return make_ballot(
            book.study, book.name, book.protocol, shown, done=done, total=total, can_undo=done > 0, **more
        )

    # voting

    def cast(
        self,
        study: str,
        who: Who,
        token: object,
        answers: object,
        *,
        response_ms: object = None,
        shown_ms: object = None,
        comment: object = "",
    ) -> View:
        """Take the answers to all questions on one showing; the view acknowledges them and deals on.

        The same answers sent again are acknowledged again and count once. Raises Refused, with nothing
        changed, for a token that is unknown, expired, used or another rater's, and for answers that do not
        fit the protocol.
        """
        rater, word = self.identities.hash_rater(study, who), read_token(token)
        protocol = self._protocol(study)
        answers_given = read_answers(answers, protocol)
        remark = read_comment(comment)
        extra = {
            "response_ms": read_milliseconds(response_ms),
            "shown_ms": read_milliseconds(shown_ms),
            "comment": remark if protocol.comments and remark else None,
        }

        def work(t: Transaction) -> View:
            state, expires = self._showing(t, study, rater, word)
            if state == "voted":
                return self._acknowledge_again(t, study, rater, word, answers_given)
            book = self._book(t, study)
            if book is None:
                raise Refused("closed", "This study was closed meanwhile. Your earlier votes are kept.")
            if state != "issued":
                raise Refused("token", "This pair was taken back. Reload the page to go on.")
            if expires <= (moment := self._clock()):
                raise Refused("expired", "This pair waited too long. Reload the page to go on.")
            showing = book.find(word)
            if any(s.pair.id == showing.pair.id for s in book.raters[rater].voted):
                raise Refused("second", "You have voted on this pair already.")
            return self._store_votes(t, book, showing, answers_given, moment, extra)

        view = self.db.write(work)
        if view.votes and not view.again:
            self._on_vote(study)
        return view

    def _store_votes(
        self,
        t: Transaction,
        book: Book,
        showing: Showing,
        answers: Mapping[str, str],
        moment: datetime,
        extra: dict[str, Any],
    ) -> View:
        """One row a question. Raises Refused for a vote that comes too soon after the pair was shown."""
        mine = book.raters[showing.rater]
        seen = max(filter(None, (showing.issued, mine.last_vote)))
        elapsed = int((moment - seen).total_seconds() * 1000)
        # The page opens its answers only then, so a sooner vote is not from the page. A negative time means
        # that a clock was set back, and locks nobody out.
        skipped = set(answers.values()) == {"skip"}  # because a picture does not load, say
        if not skipped and 0 <= elapsed < SLACK * book.protocol.least_view_ms:
            raise Refused("early", "Look at both pictures a moment longer, then vote.")
        same = {
            "token": showing.token,
            "study": book.study,
            "pair": showing.pair.id,
            "rater": showing.rater,
            "server_ms": max(0, min(LONGEST_MS, elapsed)),
            "time": moment,
            **extra,
        }
        winners = {question: find_winner(side, showing.left_is_x) for question, side in answers.items()}
        votes = [
            {"id": secrets.token_hex(16), "question": q, "side": side, "winner": winners[q], **same}
            | {"number": book.next_number()}
            for q, side in answers.items()
        ]
        t.insert("votes", votes)
        self._settle(t, book, showing, "voted", votes[0]["winner"])
        mine.last_vote = moment
        return self._next(t, book, showing.rater, votes=tuple(v["id"] for v in votes))

    def undo(self, study: str, who: Who) -> View:
        """Take back this rater's last vote and show its pair again. The vote stays as an event."""
        rater = self.identities.hash_rater(study, who)

        def work(t: Transaction) -> View:
            book = self._open_book(t, study)
            last = t.read(
                "SELECT token, max(number) FROM votes WHERE study = ? AND rater = ? "
                "GROUP BY token ORDER BY 2 DESC LIMIT 1",
                [study, rater],
            )
            if not last:
                raise Refused("nothing", "There is no vote to take back.")
            showing = book.find(last[0][0])
            for vote in t.records("SELECT * EXCLUDE (study) FROM votes WHERE token = ?", [showing.token]):
                add_event(t, study, "undo", vote, vote=vote["id"], time=self._clock())
            t.run("DELETE FROM votes WHERE token = ?", [showing.token])
            self._settle(t, book, showing, "undone")
            self._issue_again(t, book, showing)
            return self._view(t, study, rater)

        return self.db.write(work)

    def show(self, study: str, who: Who, pair: StudyPair) -> str:
        """Show this rater one pair of an open study (added if new). Returns the showing's token."""
        rater = self.identities.hash_rater(study, who)

        def work(t: Transaction) -> str:
            book = self._open_book(t, study)
            if pair.id not in book.pairs:
                self.studies.add_pairs(t, [pair])
                book.include(pair)
                self.pictures.measure_again(study)
            return self._issue(t, book, pair, rater, book.toss_side(pair, self._random)).token

        return self.db.write(work)

    def forget(self, study: str) -> None:
        """Read the study again at the next vote, because its state, pairs or votes were changed elsewhere."""
        self.pictures.measure_again(study)
        self.db.write(lambda t: self._books.pop(study, None))

    # inside the writer

    def _book(self, t: Transaction, study: str) -> Book | None:
        """The dealing state of an open study; None for a closed one. Read from the tables when needed.

        The status is read each time: another part of the studio may have closed the study.
        """
        rows = t.read("SELECT status, name, protocol, seed FROM studies WHERE id = ?", [study])
        if not rows or rows[0][0] == "draft":
            raise Refused("study", NO_STUDY)
        status, name, protocol, seed = rows[0]
        if status != "open":
            self._books.pop(study, None)
            return None
        if study not in self._books:
            self._books[study] = self._read_book(t, study, name, Protocol.model_validate_json(protocol), seed)
        return self._books[study]

    @staticmethod
    def _read_book(t: Transaction, study: str, name: str, protocol: Protocol, seed: int) -> Book:
        found = t.records(f"SELECT {PAIR_COLUMNS} FROM pairs WHERE study = ?", [study])
        pairs = {row["id"]: StudyPair(**row) for row in found}
        book = Book(study, protocol, seed, pairs.values(), name=name)
        for token, pair, rater, left, issued, expires, state, answer, number in t.read(
            "SELECT a.token, a.pair, a.rater, a.left_is_x, a.issued, a.expires, a.state, v.winner, a.number "
            "FROM assignments a LEFT JOIN votes v ON v.token = a.token AND v.question = ? "
            "WHERE a.study = ? ORDER BY a.number, a.token",
            [protocol.questions[0].id, study],
        ):
            made = Showing(token, pairs[pair], rater, left, issued, expires, state, answer, number=number)
            book.add(made)
        [(last_number,)] = t.read("SELECT coalesce(max(number), 0) FROM votes WHERE study = ?", [study])
        book.last_number = max(book.last_number, last_number)
        last = "SELECT rater, max(time) FROM votes WHERE study = ? GROUP BY rater"
        for rater, time in t.read(last, [study]):
            book.raters[rater].last_vote = time
        book.consented.update(r for (r,) in t.read("SELECT id FROM raters WHERE study = ?", [study]))
        return book

    def _open_book(self, t: Transaction, study: str) -> Book:
        book = self._book(t, study)
        if book is None:
            raise Refused("closed", "This study is closed. Your votes are kept.")
        return book

    def _deal(self, t: Transaction, book: Book, rater: str) -> list[Showing]:
        """The showings that this rater has open: old ones first, new ones up to AHEAD."""
        moment = self._clock()
        for token in self.pictures.take_seen(book.study):
            book.note_seen(token)
        book.sweep(moment)
        for showing in book.open_showings(rater):
            if showing.expires <= moment:  # came back late: the same pair and sides under a fresh token
                self._settle(t, book, showing, "dropped")
                self._issue_again(t, book, showing)
        while book.protocol.preset != QUICK.preset and len(book.open_showings(rater)) < AHEAD:
            chosen = book.choose(rater, self._random)
            while chosen is None and not book.open_showings(rater) and book.free_a_place(rater, moment):
                chosen = book.choose(rater, self._random)
            if chosen is None:
                break
            self._issue(t, book, chosen[0], rater, chosen[1])
        return book.open_showings(rater)

    def _settle(
        self, t: Transaction, book: Book, showing: Showing, state: str, answer: str | None = None
    ) -> None:
        """Give a showing its last state: voted, undone or dropped."""
        t.run("UPDATE assignments SET state = ? WHERE token = ?", [state, showing.token])
        book.settle(showing, state, answer)
        self.pictures.drop(showing.token)

    def _issue(
        self,
        t: Transaction,
        book: Book,
        pair: StudyPair,
        rater: str,
        left_is_x: bool,
        before: Showing | None = None,
    ) -> Showing:
        """A new showing, or the same one under a fresh token: it keeps its place in the order of dealing."""
        moment = self._clock()
        expires = moment + timedelta(minutes=book.protocol.expires_minutes)
        issued, number = (before.issued, before.number) if before else (moment, book.next_number())
        token = secrets.token_hex(16)
        showing = Showing(token, pair, rater, left_is_x, issued, expires, number=number)
        row = {"token": showing.token, "study": book.study, "pair": pair.id, "rater": rater}
        more = {"left_is_x": left_is_x, "issued": issued, "expires": expires, "state": "issued"}
        more["number"] = number
        t.insert("assignments", [{**row, **more}])
        book.add(showing)
        self.pictures.keep(showing.token, pair, left_is_x)
        return showing

    def _issue_again(self, t: Transaction, book: Book, showing: Showing) -> None:
        self._issue(t, book, showing.pair, showing.rater, showing.left_is_x, showing)

    def _showing(self, t: Transaction, study: str, rater: str, token: str) -> tuple[str, datetime]:
        """(state, expiry) of a showing. Raises Refused where it is not this rater's."""
        known = self._books[study].get(token) if study in self._books else None
        if known is not None:
            rows: list[Any] = [(known.rater, known.state, known.expires)]
        else:
            asked = "SELECT rater, state, expires FROM assignments WHERE token = ? AND study = ?"
            rows = t.read(asked, [token, study])
        if not rows:
            raise Refused("token", "This vote is not valid. Reload the page to go on.")
        if rows[0][0] != rater:
            raise Refused("foreign", "This pair was shown to somebody else. Reload the page to go on.")
        return rows[0][1], rows[0][2]

    def _acknowledge_again(
        self, t: Transaction, study: str, rater: str, token: str, given: Mapping[str, str]
    ) -> View:
        before = t.read("SELECT question, side, id FROM votes WHERE token = ?", [token])
        if {question: side for question, side, _ in before} != dict(given):
            raise Refused("used", "You have voted on this pair already. Take the vote back to change it.")
        return self._view(t, study, rater, votes=tuple(row[2] for row in before), again=True)
