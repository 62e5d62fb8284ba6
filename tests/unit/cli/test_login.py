"""`levity login` and `levity logout`. Runs in: pytest."""

import io
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from levity.cli.main import main
from levity.errors import AuthenticationError
from levity.protocol.messages import notification_frame
from levity.protocol.token_proof import format_token
from tests.support.fake_server import FakeServer, Peer, answering, record

Captured = pytest.CaptureFixture[str]
KEY = bytes(range(32))


def login(address: str, text: str, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Run `levity login` with the text on standard input, a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    monkeypatch.setattr(os, "isatty", lambda _: False)
    return main(["-a", address, *options, "login"])


def stored(home: Path) -> list[str]:
    tokens = home / "config" / "levity" / "tokens"
    return os.listdir(tokens) if tokens.exists() else []


def test_login_then_use_then_logout(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    with FakeServer(answering(record(), record()), host="127.0.0.1") as server:
        assert login(server.address, f"{format_token(server.key)}\nand more", monkeypatch) == 0
        out, err = capfd.readouterr()
        path = home / "config" / "levity" / "tokens" / server.address
        assert out == ""
        assert err == f"levity: logged in at {server.address} as alice, role user; the token is in {path}\n"
        assert server.requests == [], "it only shows that both have it"
        assert main(["-a", server.address, "query", "3f2a"]) == 0
        assert capfd.readouterr() == ("Running\n", "")
        assert main(["-a", server.address, "logout"]) == 0
        assert stored(home) == []
        assert main(["-a", server.address, "query", "3f2a"]) == 255
        assert "no token is known" in capfd.readouterr().err
        assert main(["-a", server.address, "logout"]) == 1
        assert "no token is stored" in capfd.readouterr().err


def refuses(peer: Peer) -> None:
    peer.send(
        notification_frame("hello", {"server": "levityd", "protocol": 1, "auth": "token", "nonce": bytes(32).hex()})
    )
    peer.reply(peer.read_request(), AuthenticationError("that token is not known here"))


def lies(peer: Peer) -> None:
    peer.send(
        notification_frame("hello", {"server": "levityd", "protocol": 1, "auth": "token", "nonce": bytes(32).hex()})
    )
    peer.reply(peer.read_request(), {"proof": bytes(32).hex()})
    peer.wait_gone()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        pytest.param(refuses, "not known here", id="levityd does not know it"),
        pytest.param(lies, "does not have the token that was given", id="the server does not have it"),
    ],
)
def test_a_refused_token_is_not_stored(
    script: Callable[[Peer], None], why: str, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    with FakeServer(script, host="127.0.0.1") as server:
        assert login(server.address, format_token(KEY), monkeypatch) == 255
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert why in err
    assert KEY.hex() not in err
    assert stored(home) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("\n", id="an empty line"),
        pytest.param("levity_abc\n", id="too short"),
        pytest.param(f"{KEY.hex()}\n", id="without its prefix"),
        pytest.param("geheim" * 300, id="too long"),
    ],
)
def test_a_text_that_is_no_token(text: str, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    with FakeServer(answering(record()), host="127.0.0.1") as server:
        assert login(server.address, text, monkeypatch) == 2
        assert server.connections == 0
    err = capfd.readouterr().err
    assert ("that is no token" if text.strip() else "no token was given") in err
    assert not text.strip() or text.strip() not in err
    assert stored(home) == []


def test_login_at_an_address_without_tokens(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    assert login(f"unix:{home}/s", format_token(KEY), monkeypatch) == 2
    assert "no token is needed at unix:" in capfd.readouterr().err
    assert login("127.0.0.1:1", format_token(KEY), monkeypatch, "--ca", "a", "-c", "c") == 2
    assert "a client certificate needs no token" in capfd.readouterr().err
    assert main(["-a", f"unix:{home}/s", "logout"]) == 2
    assert main(["-a", "127.0.0.1:1", "login", "levity_secret"]) == 2
    assert main(["-a", "127.0.0.1:1", "logout", "now"]) == 2


def test_a_token_that_will_not_be_used_is_told(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured) -> None:
    monkeypatch.setenv("LEVITY_TOKEN_FILE", str(home / "another"))
    with FakeServer(Peer.hello, host="127.0.0.1") as server:
        assert login(server.address, format_token(server.key), monkeypatch) == 0
    assert "LEVITY_TOKEN_FILE is set: its token goes before" in capfd.readouterr().err


def test_a_terminal_does_not_echo_it(home: Path) -> None:
    with FakeServer(Peer.hello, host="127.0.0.1") as server:
        token = format_token(server.key)
        pid, terminal = pty.fork()
        if pid == 0:
            os._exit(main(["-a", server.address, "login"]))
        said = b""
        while b"Token for" not in said:
            said += os.read(terminal, 1024)
        os.write(terminal, f"{token}\n".encode())
        try:
            while chunk := os.read(terminal, 1024):
                said += chunk
        except OSError:
            pass  # EIO: the other end is closed.
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
    assert f"Token for {server.address}: ".encode() in said
    assert b"logged in" in said
    assert server.key.hex().encode() not in said
    assert stored(home) == [server.address]
