"""The rater's side of a study: consent, showings, votes, undo. No Gradio.

Every step is one job of the database's writer, so that two clicks, two tabs or two hundred raters cannot
pass each other. What leaves this module for a browser (`View`) never says which arm stands where, nor which
pair is a check.


"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from random import Random, SystemRandom
from typing import Any

from studio.studies.protocol import QUICK, Protocol
from studio.studies.storage.database import Database, Transaction
from studio.studies.storage.picture_store import ImageStore
from studio.studies.storage.study_store import PAIR_COLUMNS, StudyPair, StudyStore, now
from studio.studies.storage.vote_store import add_event
from studio.studies.voting.ballots import (
    LONGEST_MS,
    Refused,
    View,
    Who,
    answers_of,
    comment_of,
    milliseconds_of,
    token_of,
    vote_view,
    winner_of,
)
from studio.studies.voting.dealing import Book, Showing

SLACK = 0.9  # of the least viewing time: clocks of browsers and servers run a little apart
AHEAD = 2  # the pair on screen and the next one, whose pictures the browser loads meanwhile


class Voting:
    """Deals pairs and takes votes. `key()`: secret bytes that hash identities and sign invites."""

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
    ) -> None:
        self.db, self.studies, self.images = db, studies, images
        self._key, self._clock, self._random = key, clock, random or SystemRandom()
        self._on_vote = on_vote
        self._books: dict[str, Book] = {}  # touched by the writer thread alone
        self._protocols: dict[str, Protocol] = {}
        # token → study, left, right: what the browser asks next
        self._pictures: dict[str, tuple[str, str, str]] = {}
        self._lengths: dict[str, int] = {}  # study → bytes of each of its pictures
        db.on_rollback = self._books.clear

    # who

    def rater_id(self, study: str, who: Who) -> str:
        """The keyed hash under which this rater's votes lie; different in every study."""
        text = json.dumps([study, who.kind, who.identity]).encode()
        return hmac.new(self._key(), text, hashlib.sha256).hexdigest()[:32]

    def invite(self, study: str, number: int) -> str:
        """The invite code of this number. Codes are signed, so none has to be stored."""
        return f"{number}-{self._sign(study, number)}"

    def _sign(self, study: str, number: int) -> str:
        return hmac.new(self._key(), f"invite:{study}:{number}".encode(), hashlib.sha256).hexdigest()[:20]

    def who(self, study: str, identity: object, invite: object = None, hub: object = None) -> Who:
        """The rater behind what a browser sent. Raises Refused where the study asks for more."""
        protocol = self._protocol(study)
        if isinstance(invite, str) and invite:
            number, dash, sign = invite[:80].partition("-")
            if not (dash and number.isdecimal() and len(number) <= 9):
                raise Refused("invite", "This invite link is not valid. Ask the organiser for a new one.")
            if not hmac.compare_digest(sign.encode(), self._sign(study, int(number)).encode()):
                raise Refused("invite", "This invite link is not valid. Ask the organiser for a new one.")
            return Who("invite", str(int(number)))
        if protocol.access == "invite":
            raise Refused("invite", "This study is open by invitation only. Use the link you were sent.")
        if isinstance(hub, str) and hub:
            return Who("hub", hub)
        if protocol.access == "hub":
            raise Refused("hub", "This study asks you to sign in with your Hugging Face account first.")
        if not (isinstance(identity, str) and 16 <= len(identity) <= 64 and identity.isalnum()):
            raise Refused("identity", "Your browser did not say who votes. Reload the page.")
        return Who("anonymous", identity)

    def _protocol(self, study: str) -> Protocol:
        """A study's protocol never changes after its making, so it is read once."""
        if study not in self._protocols:
            rows = self.db.read("SELECT protocol FROM studies WHERE id = ?", [study])
            if not rows:
                raise Refused("study", "There is no such study, or it is not open yet.")
            self._protocols[study] = Protocol.model_validate_json(rows[0][0])
        return self._protocols[study]

    # what a rater sees

    def look(self, study: str, who: Who) -> View:
        """Where this rater is: the welcome, the pairs to vote on, or the end."""
        rater = self.rater_id(study, who)
        return self.db.write(lambda t: self._view(t, study, rater))

    def consent(self, study: str, who: Who) -> View:
        """The rater has read the instruction and agrees. Doing it twice changes nothing."""
        rater = self.rater_id(study, who)

        def work(t: Transaction) -> View:
            book = self._open_book(t, study)
            row = {"id": rater, "study": study, "kind": who.kind, "consented": self._clock()}
            t.insert("raters", [row], if_new=True)
            book.consented.add(rater)
            return self._next(t, book, rater)

        return self.db.write(work)

    def _view(self, t: Transaction, study: str, rater: str, **more: Any) -> View:
        book = self._book(t, study)
        if book is None:
            text = "This study is closed. Your votes are kept. Thank you!"
            return View("end", study, self._name_of_closed(t, study), text=text, **more)
        if not book.has_consent(rater):
            protocol = book.protocol
            more |= {"text": protocol.instruction, "total": book.total_for(rater)}
            return View("welcome", study, book.name, consent=protocol.consent, **more)
        return self._next(t, book, rater, **more)

    def _next(self, t: Transaction, book: Book, rater: str, **more: Any) -> View:
        showings = self._deal(t, book, rater)
        done = len(book.raters[rater].voted)
        if not showings:
            text = "You have voted on all pairs that are there for you. Thank you!"
            return View("end", book.study, book.name, done, done, can_undo=done > 0, text=text, **more)
        shown = tuple({"token": s.token, "prompt": s.pair.prompt} for s in showings)
        total = max(book.total_for(rater), done + len(showings))
        return vote_view(
            book.study, book.name, book.protocol, shown, done=done, total=total, can_undo=done > 0, **more
        )

    def picture(self, token: object, side: object) -> bytes:
        """The PNG on this side of a showing, for whoever holds its token. Raises Refused for an unknown
        one.
        """
        if side not in ("left", "right"):
            raise Refused("side", "There is no such picture.")
        known = self._pictures.get(token_of(token))
        if known is not None:
            study, *sides = known
            return self.padded_picture(study, sides[side == "right"])
        rows = self.db.read(
            "SELECT a.study, CASE WHEN a.left_is_x = ? THEN p.image_x ELSE p.image_y END, a.state "
            "FROM assignments a JOIN pairs p ON p.id = a.pair WHERE a.token = ?",
            [side == "left", token_of(token)],
        )
        if not rows or rows[0][2] in ("undone", "dropped"):
            raise Refused("token", "There is no such picture.")
        return self.padded_picture(rows[0][0], rows[0][1])

    def padded_picture(self, study: str, sha256: str) -> bytes:
        """A picture of this study as a rater's browser gets it: each has as many bytes as all others."""
        if study not in self._lengths:
            rows = self.db.read("SELECT image_x, image_y FROM pairs WHERE study = ?", [study])
            self._lengths[study] = self.images.common_length({sha for row in rows for sha in row if sha})
        return self.images.padded_view(sha256, self._lengths[study])

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
        """Take the answers to all questions on one showing. The view holds the acknowledged ids and what
        follows.

        Sending the same again is acknowledged again, and is one vote. Raises Refused, with nothing changed,
        for a token that is unknown, expired, used or another rater's, and for answers that do not fit the
        protocol.
        """
        rater, word = self.rater_id(study, who), token_of(token)
        protocol = self._protocol(study)
        given, remark = answers_of(answers, protocol), comment_of(comment)
        times = {"response_ms": milliseconds_of(response_ms), "shown_ms": milliseconds_of(shown_ms)}

        def work(t: Transaction) -> View:
            state, expires = self._showing(t, study, rater, word)
            if state == "voted":
                return self._acknowledge_again(t, study, rater, word, given)
            book = self._book(t, study)
            if book is None:
                raise Refused(
                    "closed",
                    "The study was closed while you looked at this pair. Your earlier votes are kept.",
                )
            if state != "issued":
                raise Refused("token", "This pair was taken back. Reload the page to go on.")
            moment = self._clock()
            if expires <= moment:
                raise Refused("expired", "This pair waited too long. Reload the page to go on.")
            showing = book.find(word)
            if any(s.pair.id == showing.pair.id for s in book.raters[rater].voted):
                raise Refused("second", "You have voted on this pair already.")
            remarkable = remark if protocol.comments and remark else None
            seen = max(filter(None, (showing.issued, book.raters[rater].last_vote)))
            elapsed = int((moment - seen).total_seconds() * 1000)
            # The page opens its answers only then, so whoever is sooner has no page. A clock set back (a
            # negative time) shuts nobody out.
            if 0 <= elapsed < SLACK * protocol.least_view_ms:
                raise Refused("early", "Look at both pictures a moment longer, then vote.")
            votes = [
                {
                    "id": secrets.token_hex(16),
                    "token": word,
                    "study": study,
                    "pair": showing.pair.id,
                    "rater": rater,
                    "question": question,
                    "side": side,
                    "winner": winner_of(side, showing.left_is_x),
                    **times,
                    "server_ms": max(0, min(LONGEST_MS, elapsed)),
                    "comment": remarkable,
                    "time": moment,
                }
                for question, side in given.items()
            ]
            t.insert("votes", votes)
            t.run("UPDATE assignments SET state = 'voted' WHERE token = ?", [word])
            book.settle(showing, "voted", votes[0]["winner"])
            self._pictures.pop(word, None)
            book.raters[rater].last_vote = moment
            return self._next(t, book, rater, votes=tuple(v["id"] for v in votes))

        view = self.db.write(work)
        if view.votes and not view.again:
            self._on_vote(study)
        return view

    def undo(self, study: str, who: Who) -> View:
        """Take back this rater's last vote and show its pair again. The vote is kept as an event."""
        rater = self.rater_id(study, who)

        def work(t: Transaction) -> View:
            book = self._open_book(t, study)
            last = t.read(
                "SELECT token, max(time) FROM votes WHERE study = ? AND rater = ? "
                "GROUP BY token ORDER BY 2 DESC LIMIT 1",
                [study, rater],
            )
            if not last:
                raise Refused("nothing", "There is no vote to take back.")
            showing = book.find(last[0][0])
            columns = (
                "id",
                "token",
                "pair",
                "rater",
                "question",
                "side",
                "winner",
                "response_ms",
                "shown_ms",
            )
            columns += ("server_ms", "comment", "time")
            for row in t.read(f"SELECT {', '.join(columns)} FROM votes WHERE token = ?", [showing.token]):
                kept = dict(zip(columns, row))
                add_event(t, study, "undo", kept, vote=kept["id"], time=self._clock())
            t.run("DELETE FROM votes WHERE token = ?", [showing.token])
            t.run("UPDATE assignments SET state = 'undone' WHERE token = ?", [showing.token])
            self._withdraw(book, showing, "undone")
            self._issue(t, book, showing.pair, rater, showing.left_is_x, issued=showing.issued)
            return self._view(t, study, rater)

        return self.db.write(work)

    def show(self, study: str, who: Who, pair: StudyPair) -> str:
        """Show this rater a given pair of an open study, added when new, and return the showing's token."""
        rater = self.rater_id(study, who)

        def work(t: Transaction) -> str:
            book = self._open_book(t, study)
            if pair.id not in book.pairs:
                self.studies.add_pairs(t, [pair])
                book.include(pair)
                self._lengths.pop(study, None)
            return self._issue(t, book, pair, rater, book.side_for(pair, self._random)).token

        return self.db.write(work)

    def forget(self, study: str) -> None:
        """Read the study anew at the next vote: after its state, its pairs or its votes were changed
        elsewhere.
        """
        self._lengths.pop(study, None)
        self.db.write(lambda t: self._books.pop(study, None))

    # inside the writer

    def _book(self, t: Transaction, study: str) -> Book | None:
        """The dealing state of an open study, read from the tables unless it is in memory; None for a
        closed one.

        The status is asked each time: another part of the studio may have closed the study.
        """
        rows = t.read("SELECT status, name, protocol, seed FROM studies WHERE id = ?", [study])
        if not rows or rows[0][0] == "draft":
            raise Refused("study", "There is no such study, or it is not open yet.")
        status, name, protocol, seed = rows[0]
        if status != "open":
            self._books.pop(study, None)
            return None
        if study not in self._books:
            self._books[study] = self._read_book(t, study, name, Protocol.model_validate_json(protocol), seed)
        return self._books[study]

    @staticmethod
    def _read_book(t: Transaction, study: str, name: str, protocol: Protocol, seed: int) -> Book:
        columns = PAIR_COLUMNS.split(", ")
        pairs = {
            row[0]: StudyPair(**dict(zip(columns, row)))
            for row in t.read(f"SELECT {PAIR_COLUMNS} FROM pairs WHERE study = ?", [study])
        }
        book = Book(study, protocol, seed, pairs.values(), name=name)
        for token, pair, rater, left, issued, expires, state, answer in t.read(
            "SELECT a.token, a.pair, a.rater, a.left_is_x, a.issued, a.expires, a.state, v.winner "
            "FROM assignments a LEFT JOIN votes v ON v.token = a.token AND v.question = ? "
            "WHERE a.study = ? ORDER BY a.issued, a.token",
            [protocol.questions[0].id, study],
        ):
            book.add(Showing(token, pairs[pair], rater, left, issued, expires, state, answer))
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

    @staticmethod
    def _name_of_closed(t: Transaction, study: str) -> str:
        return str(t.read("SELECT name FROM studies WHERE id = ?", [study])[0][0])

    def _deal(self, t: Transaction, book: Book, rater: str) -> list[Showing]:
        """The showings this rater should have open: old ones first, new ones up to AHEAD."""
        moment = self._clock()
        book.sweep(moment)
        for showing in book.open_showings(rater):
            if showing.expires <= moment:  # came back late: the same pair and sides under a fresh token
                t.run("UPDATE assignments SET state = 'dropped' WHERE token = ?", [showing.token])
                self._withdraw(book, showing, "dropped")
                self._issue(t, book, showing.pair, rater, showing.left_is_x, issued=showing.issued)
        while book.protocol.preset != QUICK.preset and len(book.open_showings(rater)) < AHEAD:
            chosen = book.choose(rater, self._random)
            if chosen is None:
                break
            self._issue(t, book, chosen[0], rater, chosen[1])
        return book.open_showings(rater)

    def _withdraw(self, book: Book, showing: Showing, state: str) -> None:
        book.settle(showing, state)
        self._pictures.pop(showing.token, None)

    def _issue(
        self,
        t: Transaction,
        book: Book,
        pair: Any,
        rater: str,
        left_is_x: bool,
        issued: datetime | None = None,
    ) -> Showing:
        moment = self._clock()
        showing = Showing(
            token=secrets.token_hex(16),
            pair=pair,
            rater=rater,
            left_is_x=left_is_x,
            issued=issued or moment,
            expires=moment + timedelta(minutes=book.protocol.expires_minutes),
        )
        row = {
            "token": showing.token,
            "study": book.study,
            "pair": pair.id,
            "rater": rater,
            "left_is_x": left_is_x,
            "issued": showing.issued,
            "expires": showing.expires,
            "state": "issued",
        }
        t.insert("assignments", [row])
        book.add(showing)
        sides = (str(pair.image_x), str(pair.image_y))
        self._pictures[showing.token] = (book.study, *(sides if left_is_x else sides[::-1]))
        return showing

    def _showing(self, t: Transaction, study: str, rater: str, token: str) -> tuple[str, datetime]:
        """(state, expiry) of this rater's showing. Raises Refused where it is not theirs."""
        known = self._books[study].known(token) if study in self._books else None
        rows = (
            [(known.rater, known.state, known.expires)]
            if known is not None
            else t.read(
                "SELECT rater, state, expires FROM assignments WHERE token = ? AND study = ?", [token, study]
            )
        )
        if not rows:
            raise Refused("token", "This is no valid vote. Reload the page to go on.")
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
