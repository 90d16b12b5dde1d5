"""What seldom happens to servers that are one, and to their database: so that panels about it have something to show."""

import re
import struct
import time
from contextlib import contextmanager

from machines import wait_until
from visitor import VOICE, Visitor, ask, speaker_at


def be_one(server, other):
    wait_until("the servers are one", lambda: server.cluster() == other.cluster() == "up")


def match_across(server, other, app):
    """Two users of two servers are matched, and talk. One of them goes on at the other server."""
    waiting, seeking = Visitor(server.public, path="/ws?resume=1"), Visitor(other.public, token=app.signed("ann"))
    session = waiting.expect("session")
    waiting.send({"type": "find_match", "seq": 1})
    waiting.expect("waiting")
    seeking.send({"type": "find_match"})
    seeking.expect("match_found")
    last = waiting.expect("match_found")["seq"]
    seeking.send({"type": "message", "payload": {"text": "hello"}})
    last = waiting.expect("message")["seq"]
    waiting.leave()
    back = Visitor(other.public, path=f"/ws?token={session['resume_token']}&after={last}")
    back.expect("resumed")
    back.send({"type": "message", "payload": {"text": "hello"}, "seq": 2})
    seeking.expect("message")
    back.send({"type": "leave"})
    back.expect_close()
    for visitor in (back, seeking):
        visitor.leave()


def show_an_unknown_key(other, app):
    """A token by a key that the app does not publish: the server looks for it there."""
    assert Visitor(other.public, token=app.signed("ann", key="2")).status == 401
    other.counts('token_key_fetches_total{result="ok"}', 2)


def lose_the_engine(engine, server, other, app):
    """The engine is away for a moment, while somebody waits, and two rooms of one name begin. It comes back empty."""
    waiting = Visitor(server.public)
    waiting.send({"type": "find_match"})
    waiting.expect("waiting")
    engine.end()
    wait_until("the engine is away", lambda: server.cluster() == other.cluster() == "down")
    apart = Visitor(server.public), Visitor(other.public, token=app.signed("ann"))
    for visitor in apart:
        visitor.send({"type": "join_room", "room": "apart"})
        visitor.expect("room_joined")
    engine.run()
    be_one(server, other)
    server.counts('match_put_back_total{reason="engine"}')
    wait_until("the rooms are one", lambda: server.value("room_conflicts_total") + other.value("room_conflicts_total"))
    for visitor in (waiting, *apart):
        visitor.leave()


def hear_strangers(engine, server):
    """On the bus: a kind of packet and a kind of frame that a later version may have, and what is nothing at all."""
    me = server.node()
    head = struct.pack("!8s8sQ", b"stranger", bytes.fromhex(me), 1) + bytes(8)
    frame = struct.pack("!IB24s", 3, 200, b"") + b"new"
    for packet in (b"\1\x63\0\0" + head, b"\1\1\0\1" + head + frame, b"\1"):
        assert engine.ask("spublish", f"vm:1:n:{{{me}}}", packet) == ":1"
    for counted in ("bus_unknown_frames_total", 'messages_dropped_total{reason="unknown_frame"}', 'bus_dropped_total{reason="garbage"}'):
        server.counts(counted)


def cut_the_bus(engine, server, other, app):
    """A server misses messages of the other one, and gets them once more."""
    pair = Visitor(server.public), Visitor(other.public, token=app.signed("ann"))
    for visitor in pair:
        visitor.send({"type": "find_match"})
        visitor.expect("waiting" if visitor is pair[0] else "match_found")
    pair[0].expect("match_found")

    def missed():
        # One of the two hears nothing for a moment. What comes afterwards shows what is missing.
        client = re.search(r"\bid=(\d+)", engine.ask("client", "list", "type", "pubsub"))[1]
        engine.ask("client", "kill", "id", client)
        for number in range(20):
            for visitor in pair:
                visitor.send({"type": "message", "payload": number})
            time.sleep(0.01)
        return any(one.value('bus_gaps_total{result="repaired"}') for one in (server, other))

    wait_until("a gap is repaired", missed)
    for visitor in pair:
        visitor.leave()


def stand_still(server, other, app):
    """A server does nothing for so long that it is taken for dead; it does not answer to the one who would match its user."""

    def unanswered():
        waiting, seeking = Visitor(other.public, token=app.signed("ann")), Visitor(server.public)
        waiting.send({"type": "find_match"})
        waiting.expect("waiting")
        dead = server.value('cluster_nodes{state="dead"}')
        with other.standing_still():
            seeking.send({"type": "find_match"})
            server.counts('cluster_nodes{state="dead"}', dead + 1)
        be_one(server, other)
        for visitor in (waiting, seeking):
            visitor.leave()
        # If that took half a second nobody was asked: it was suspected before.
        return server.value('match_claims_total{result="timeout"}')

    wait_until("a proposal gets no answer", unanswered, seconds=60)
    other.counts('cluster_lives_total{reason="fenced"}')


def ask_elsewhere(server, other):
    """A speaker comes to a server that does not have the session."""
    host_token = ask(server.admin, "/api/sessions", {"slug": "elsewhere"})["host_token"]
    host = Visitor(server.public, path=f"/transcribe?token={host_token}")
    # Without somebody in it the session would be let go, and could be taken by the other server.
    host.expect("ready")
    Visitor(other.public, path=f"/transcribe?token={speaker_at(server, 'elsewhere', 'ann')}").leave()
    other.counts('transcribe_moved_total{result="elsewhere"}')
    host.leave()


def lose_the_database(database, server):
    """Somebody speaks to a recogniser that says all twice, and goes on while the database refuses finals, and while it takes nothing."""
    host_token = ask(server.admin, "/api/sessions", {"slug": "stammer"})["host_token"]
    host = Visitor(server.public, path=f"/transcribe?token={host_token}")
    speaker = Visitor(server.public, path=f"/transcribe?token={speaker_at(server, 'stammer', 'ann')}")

    def said(series):
        speaker.send(VOICE)
        return server.value(series)

    wait_until("something was said twice", lambda: said("transcribe_duplicate_segments_total"))
    host.expect("stored")
    with altered(database, "ALTER TABLE segments ADD CONSTRAINT refuses CHECK (false) NOT VALID", "ALTER TABLE segments DROP CONSTRAINT refuses"):
        wait_until("the database refuses a final", lambda: said("transcribe_records_rejected_total"))
    with altered(database, "ALTER TABLE segments RENAME TO away", "ALTER TABLE away RENAME TO segments"):
        wait_until("finals are lost", lambda: said("transcribe_lost_segments_total"))
    wait_until("the database takes records again", lambda: not server.value("transcribe_spill_bytes"))
    for visitor in (host, speaker):
        visitor.leave()


@contextmanager
def altered(database, change, back):
    """The database is so until the block ends."""
    database.run(change)
    try:
        yield
    finally:
        database.run(back)
