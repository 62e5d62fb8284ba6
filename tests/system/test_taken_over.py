"""A front-end that an attacker has taken over: it runs nothing, learns nothing and stops nothing."""

import hmac
import os
import random
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from levity.errors import Forbidden, UnknownTask
from levity.protocol.token_proof import client_proof, make_nonce, parse_token
from supervisor.engine.access.tickets import Ticket
from supervisor.security.principal import Principal
from supervisor.security.roles import Role
from supervisor.settings import Known
from tests.support.daemon import Daemon
from tests.support.impostor import Impostor, taken_over, weak_command
from tests.support.launch import run_levityd
from tests.support.tasks import client_of, sh

NOT_KNOWN = 40


# What it says to the engine: requests of people who are not there

REQUESTS: dict[str, dict[str, Any]] = {
    "task.start": {"id": "aaaaaaaa-0000-4000-8000-000000000000", "argv": ["true"], "cwd": "/", "env": {}},
    "task.query": {"id": "a"},
    "task.signal": {"id": "a"},
    "task.list": {},
    "task.wait": {"ids": ["a"]},
    "task.stdin": {"id": "a", "offset": 0, "data": ""},
    "server.info": {},
    "auth.check": {},
    "spool.open": {"id": "a", "for": "task.logs"},
    "no.such": {},
}


def forged(ticket: str, chance: random.Random) -> Iterator[str]:
    """Yield what is not quite this ticket."""
    body, _dot, signature = ticket.partition(".")
    yield from ("", ".", "x", body, f"{body}.", f".{signature}", ticket[:-1], f"{ticket}0", f" {ticket}", f"{ticket}\n")
    yield from (f"{body}={'.'}{signature}", f"{body}.{signature.upper()}", f"{signature}.{body}", "\ud800." + signature)
    yield from ("\u00e9" * 100, "x" * 1_000_000, f"{body}.{'0' * 64}")
    for _flip in range(60):
        data = bytearray(ticket.encode())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(7)
        yield data.decode()
    for key in (b"", bytes(32), b"\0" * 64):
        root = Ticket(Known.PEER, Principal("root", Role.ADMIN, 0, 0, (0,)), "x", time.monotonic())
        made = urlsafe_b64encode(root.to_json()).decode()
        yield f"{made}.{signature}"
        yield f"{made}.{_signed(key, made)}"


def _signed(key: bytes, body: str) -> str:
    return hmac.digest(key, body.encode(), "sha256").hex()


def test_nothing_is_done_for_a_ticket_that_is_not_quite_one(unharmed: Daemon) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    with taken_over(unharmed) as impostor:
        ticket = impostor.ticket()
        for method, params in REQUESTS.items():
            for other in forged(ticket, random.Random(seed)):
                if other != ticket:
                    for do in ("ask", "pass"):
                        assert impostor.ask(method, params, other, do=do)["error"]["code"] == NOT_KNOWN, (method, other)
        assert "result" in impostor.ask("server.info", {}, ticket)


def test_another_levityds_ticket_is_none(unharmed: Daemon) -> None:
    one = Daemon(command=weak_command())
    try:
        with taken_over(one.start()) as impostor:
            ticket = impostor.ticket()
            assert "result" in impostor.ask("server.info", {}, ticket)
    finally:
        one.end()
    with taken_over(unharmed) as impostor:
        assert impostor.ask("server.info", {}, ticket)["error"]["code"] == NOT_KNOWN
        # The two halves of two tickets of different people are not a third.
        body, _dot, _signature = impostor.ticket().partition(".")
        swapped = f"{body}.{ticket.partition('.')[2]}"
        assert impostor.ask("server.info", {}, swapped)["error"]["code"] == NOT_KNOWN


@pytest.fixture
def by_token() -> Iterator[Daemon]:
    one = Daemon("127.0.0.1:0", command=weak_command())
    try:
        yield one.start()
    finally:
        one.end()


def add_token(daemon: Daemon, name: str, *options: str) -> bytes:
    added = run_levityd("token", "add", name, *options, "--state-dir", str(daemon.state_dir))
    return parse_token(added.stdout)


def begun(impostor: Impostor, key: bytes) -> dict[str, str]:
    """Return what there is of a dialogue with who has a token, before the proof."""
    ours = impostor.ask("auth.nonce", {})["result"]["nonce"]
    return {"server_nonce": ours, "client_nonce": make_nonce(key).hex(), "binding": "", "peer": "x"}


def proved(impostor: Impostor, key: bytes, talk: dict[str, str]) -> str:
    """Return the ticket for it."""
    ours, theirs = bytes.fromhex(talk["server_nonce"]), bytes.fromhex(talk["client_nonce"])
    proof = client_proof(key, ours, theirs, b"").hex()
    return str(impostor.ask("auth.finish", talk | {"proof": proof})["result"]["ticket"])


def test_the_ticket_of_a_revoked_token_is_none(by_token: Daemon) -> None:
    key = add_token(by_token, "bob")
    with taken_over(by_token) as impostor:
        talk = begun(impostor, key)
        assert "proof" in impostor.ask("auth.begin", talk)["result"]
        assert impostor.ask("auth.finish", talk | {"proof": bytes(32).hex()})["error"]["code"] == NOT_KNOWN
        ticket = proved(impostor, key, talk)
        assert impostor.ask("server.info", {}, ticket)["result"]["user"] == "bob"
        assert run_levityd("token", "revoke", "bob", "--state-dir", str(by_token.state_dir)).returncode == 0
        assert impostor.ask("server.info", {}, ticket)["error"]["code"] == NOT_KNOWN
        assert impostor.ask("auth.begin", talk)["error"]["code"] == NOT_KNOWN


def test_for_a_viewer_a_front_end_is_lent_no_directory_to_feed(by_token: Daemon) -> None:
    keys = {role: add_token(by_token, f"a-{role}", "--role", role) for role in ("viewer", "user")}
    with client_of(by_token.address) as client:
        task_id = sh(client, "exec sleep 600", stdin=True)
    with taken_over(by_token) as impostor:
        tickets = {role: proved(impostor, key, begun(impostor, key)) for role, key in keys.items()}
        borrowed = {"id": task_id, "for": "task.logs"}
        assert impostor.ask("spool.open", borrowed, tickets["viewer"], fd=True)["result"]["id"] == task_id
        assert impostor.ask("spool.open", borrowed, tickets["user"])["error"]["code"] == UnknownTask.code
        borrowed["for"] = "task.stdin"
        assert impostor.ask("spool.open", borrowed, tickets["viewer"])["error"]["code"] == Forbidden.code
        assert impostor.ask("spool.open", borrowed, tickets["user"])["error"]["code"] == UnknownTask.code


HUGE = "ab" * 1_000_000
ODD: list[object] = [None, 1, -1, 10**300, 1.5e300, True, "", "\ud800", "\0\n\x1b", "zz", HUGE, [], ["a"], {}, [[[[]]]]]


def test_no_parameter_of_its_own_requests_brings_the_engine_down(unharmed: Daemon) -> None:
    names = {
        "auth.peer": ["peer"],
        "auth.begin": ["server_nonce", "client_nonce", "binding", "peer"],
        "auth.finish": ["server_nonce", "client_nonce", "binding", "proof", "peer"],
        "auth.certificate": ["names", "not_after", "crl", "peer"],
        "auth.rejected": ["peer", "reason"],
        "spool.open": ["id", "for"],
        "task.unwait": ["token"],
        "tls.crl": ["known"],
    }
    with taken_over(unharmed) as impostor:
        ticket = impostor.ticket()
        for method, keys in names.items():
            for key in keys:
                for value in ODD:
                    reply = impostor.ask(method, {key: value}, ticket)
                    assert "error" in reply or method in ("auth.rejected", "task.unwait", "tls.crl"), reply
                    assert "ticket" not in reply.get("result", {})


# Whom it shows


def wrong_sockets(impostor: Impostor, directory: Path, undo: ExitStack) -> dict[str, int]:
    """Return descriptors that are no connection of a client of ours."""
    service, client, tcp = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX), socket.socket()
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours, theirs = socket.socketpair()
    for sock in (service, client, tcp, datagram, ours, theirs):
        undo.enter_context(sock)
    service.bind(str(directory / "service"))
    service.listen()
    client.connect(str(directory / "service"))
    accepted = undo.enter_context(service.accept()[0])
    connected = undo.enter_context(socket.socket(socket.AF_UNIX))
    connected.connect(impostor.listener.getsockname())
    undo.enter_context(impostor.listener.accept()[0])
    read_end, write_end = os.pipe()
    undo.callback(os.close, read_end)
    undo.callback(os.close, write_end)
    return {
        # The kernel says of a listener who listens: levityd's own user.
        "the listener": impostor.listener.fileno(),
        "the client's end": connected.fileno(),
        "what the arbiter made": impostor.control.fileno(),
        "the pipe itself": impostor.pipe.fileno(),
        "a pair": ours.fileno(),
        "a service's client": client.fileno(),
        "a service's connection": accepted.fileno(),
        "a service": service.fileno(),
        "datagrams": datagram.fileno(),
        "tcp": tcp.fileno(),
        "a pipe": read_end,
        "a file": undo.enter_context((directory / "file").open("w")).fileno(),
    }


def test_only_a_connection_of_a_client_is_one(unharmed: Daemon, tmp_path: Path) -> None:
    engine = psutil.Process(unharmed.pid_of("engine"))
    with taken_over(unharmed) as impostor, ExitStack() as undo:
        sockets = wrong_sockets(impostor, tmp_path, undo)
        held = 0
        for name, fd in [*sockets.items(), *sockets.items()]:
            reply = impostor.ask("auth.peer", {"peer": "x"}, descriptors=[fd])
            assert "error" in reply, name
            held = held or engine.num_fds()
        assert "error" in impostor.ask("auth.peer", {"peer": "x"})
        assert "error" in impostor.ask("auth.peer", {"peer": "x"}, fd=True)
        assert engine.num_fds() <= held
        assert impostor.ticket()


_ELSEWHERE = """
import os, socket, subprocess, sys
address, service = sys.argv[1], int(sys.argv[2])
pair = socket.socket(fileno=service)
subprocess.run(["mount", "-t", "tmpfs", "none", os.path.dirname(address)], check=True)
pair.bind(address)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_socket_of_the_same_name_elsewhere_is_another(unharmed: Daemon) -> None:
    """In a mount namespace of its own it can bind anything of root's to our path."""
    with taken_over(unharmed) as impostor:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            done = subprocess.run(
                [
                    "unshare",
                    "-m",
                    sys.executable,
                    "-c",
                    _ELSEWHERE,
                    str(unharmed.address)[5:],
                    str(ours.fileno()),
                ],
                pass_fds=[ours.fileno()],
                check=False,
            )
            if done.returncode:
                pytest.skip("no mount namespaces here")
            assert ours.getsockname() == impostor.listener.getsockname()
            assert "error" in impostor.ask("auth.peer", {"peer": "x"}, descriptors=[ours.fileno()])
