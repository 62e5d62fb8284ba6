"""A front-end that an attacker has taken over, and its pipe to the engine: it is replaced if it breaks the stream, and
any other nonsense changes nothing.
"""

import json
import os
import signal
import socket
import struct
import uuid

import psutil
import pytest

from levity.errors import AuthenticationError, UnknownMethod
from levity.protocol.frames import FRAME_LIMIT
from levity.protocol.messages import request_body, request_frame
from supervisor.ipc.envelope import Envelope, envelope_frame
from tests.support.attack import INNER
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.impostor import replaced, taken_over

NOT_KNOWN = AuthenticationError.code


# A stream that cannot be read


def envelope_of(body: bytes, *, head: bytes = b'{"do":"ask","number":1}', flags: int = 0) -> bytes:
    """Return the frame of an envelope, whatever is in it."""
    rest = struct.pack(">BBI", KIND, flags, len(head)) + head + body
    return struct.pack(">I", len(rest)) + rest


KIND = 16
GOOD = envelope_frame(Envelope("ask", 1, request_body(None, "auth.check", {})))
UNREADABLE = {
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "no length": bytes(5),
    "more than the limit": struct.pack(">I", FRAME_LIMIT + 2 * 2**20),
    "an unknown kind": struct.pack(">IB", 10, 7) + bytes(9),
    "a client's frame": request_frame(1, "server.info", {}),
    "output": struct.pack(">IBQ", 12, 1, 0) + b"abc",
    "behind a good one": GOOD + struct.pack(">IB", 10, 0),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_front_end_that_breaks_the_stream_is_replaced(unharmed: Daemon, name: str) -> None:
    with taken_over(unharmed) as impostor:
        impostor.send(UNREADABLE[name])
        replaced(unharmed, impostor)


def test_a_front_end_that_sends_descriptors_but_no_envelope_is_replaced(unharmed: Daemon) -> None:
    engine = psutil.Process(unharmed.pid_of("engine"))
    with taken_over(unharmed) as impostor, open(os.devnull) as null:
        impostor.ticket()  # By then the engine has the new pipe, and not the old one.
        held = engine.num_fds()
        for byte in GOOD * 2:
            impostor.send(bytes((byte,)), [null.fileno()] * 100)
        replaced(unharmed, impostor)
        eventually(lambda: engine.num_fds() <= held, "the descriptors to be closed")


# Envelopes that are whole and make no sense


def info_with(value: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"server.info","params":{"x":' + value + b"}}"


CHECK = request_body(None, "auth.check", {})
NOT_UNDERSTOOD = {
    "nothing": struct.pack(">IB", 1, KIND),
    "flags only": struct.pack(">IBB", 2, KIND, 0),
    "a head cut off": struct.pack(">IBBI", 8, KIND, 0, 100) + b"{}",
    "a head too long": struct.pack(">IBBI", 6, KIND, 0, 2**32 - 1),
    "a head that is no JSON": envelope_of(CHECK, head=b"\xff{"),
    "a deep head": envelope_of(CHECK, head=b"[" * 300_000),
    "a head that is a list": envelope_of(CHECK, head=b"[]"),
    "a head that says nothing": envelope_of(CHECK, head=b"{}"),
    "a number that is none": envelope_of(CHECK, head=b'{"do":"ask","number":"1"}'),
    "a ticket that is none": envelope_of(CHECK, head=b'{"do":"ask","number":1,"ticket":{}}'),
    "something to do that is none": envelope_of(CHECK, head=b'{"do":7,"number":1}'),
    "something else to do": envelope_of(CHECK, head=b'{"do":"resize","number":1,"to":[80,24]}'),
    "a reply": envelope_of(CHECK, head=b'{"do":"reply","number":1}'),
    "no message": envelope_of(b""),
    "a list": envelope_of(b"[]"),
    "no request": envelope_of(b"{}"),
    "an id that is none": envelope_of(b'{"jsonrpc":"2.0","id":[],"method":"auth.check"}'),
    "deeper": envelope_of(info_with(b"[" * 300_000)),
    "garbled": envelope_of(CHECK[:-3] + b"\0\xff}"),
}


def test_an_envelope_that_makes_no_sense_changes_nothing(unharmed: Daemon) -> None:
    with taken_over(unharmed) as impostor:
        ticket = impostor.ticket()
        for name, envelope in NOT_UNDERSTOOD.items():
            impostor.send(envelope * 2)
            impostor.send(envelope + GOOD[:20])
            impostor.send(GOOD[20:])
            # The good one behind them is the first that is answered.
            assert impostor.reply()[1].get("error", {}).get("code") == NOT_KNOWN, name
            assert impostor.ask("server.info", {}, ticket)["result"]["pid"] == unharmed.pid, name
            assert unharmed.pid_of("front-end") == impostor.pid, name


def test_a_flood_of_ignored_envelopes_is_one_line_in_the_log(unharmed: Daemon) -> None:
    before = unharmed.stderr_text().count("ignored")
    with taken_over(unharmed) as impostor:
        impostor.send(NOT_UNDERSTOOD["no request"] * 10_000)
        assert impostor.ticket()
    assert unharmed.stderr_text().count("ignored") == before + 1


def test_the_descriptor_of_an_envelope_that_makes_no_sense_is_closed(unharmed: Daemon) -> None:
    engine = psutil.Process(unharmed.pid_of("engine"))
    with taken_over(unharmed) as impostor, open(os.devnull) as null:
        assert impostor.ticket()
        held = engine.num_fds()
        for name in ("a list", "no message"):
            frame = bytearray(NOT_UNDERSTOOD[name])
            frame[5] |= 1
            for _ in range(100):
                impostor.send(bytes(frame), [null.fileno()])
        assert impostor.ticket()
        assert engine.num_fds() <= held


def test_a_clients_request_cannot_use_a_method_of_the_front_end(unharmed: Daemon) -> None:
    """Even a front-end that passes on whatever clients send opens none of its own ways to them."""
    with taken_over(unharmed) as impostor:
        ticket = impostor.ticket()
        for method in INNER:
            assert impostor.ask(method, {}, do="pass")["error"]["code"] == NOT_KNOWN
            assert impostor.ask(method, {}, ticket, do="pass")["error"]["code"] == UnknownMethod.code
        engine = psutil.Process(unharmed.pid_of("engine"))
        held = engine.num_fds()
        with impostor.visitor() as accepted:
            for _ in range(20):
                shown = impostor.ask("auth.peer", {"peer": "x"}, ticket, [accepted.fileno()], do="pass")
                assert shown["error"]["code"] == UnknownMethod.code
        assert engine.num_fds() <= held


def test_no_key_of_a_message_is_read_as_one_of_the_envelope(unharmed: Daemon) -> None:
    """A client could write them."""
    with taken_over(unharmed) as impostor:
        ticket = impostor.ticket()
        words = {"ticket": ticket, "auth": ticket, "do": "ask", "number": 9, "fd": True}
        message = {"jsonrpc": "2.0", "id": 1, "method": "server.info", "params": words, **words}
        impostor.send(envelope_frame(Envelope("pass", 5, json.dumps(message).encode())))
        number, reply = impostor.reply()
        assert (number, reply["error"]["code"]) == (5, NOT_KNOWN)


@pytest.mark.parametrize("cut", [4, 30])
def test_half_a_request_does_nothing(unharmed: Daemon, cut: int) -> None:
    message = request_body(1, "task.start", {"id": str(uuid.uuid4()), "argv": ["true"]})
    frame = envelope_frame(Envelope("pass", 1, message))
    with taken_over(unharmed) as impostor:
        impostor.send(frame[:cut])
        impostor.pipe.shutdown(socket.SHUT_RDWR)
        os.kill(impostor.pid, signal.SIGKILL)
        replaced(unharmed, impostor)
