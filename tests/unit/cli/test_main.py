"""The `levity` command: what it prints and how it exits. Runs in: pytest."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from levity.cli.main import main
from levity.errors import AmbiguousTask, BadDirectory, CommandNotFound, NotExecutable, UnknownTask
from tests.support.fake_server import FakeServer, Peer, answering, record

ID = record()["id"]
Captured = pytest.CaptureFixture[bytes]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A levityd that answers every request with one task's record."""
    with FakeServer(answering(record())) as fake:
        yield fake


def run(server: FakeServer | str, *words: str) -> int:
    address = server if isinstance(server, str) else server.address
    return main(["-a", address, *words])


def sent(server: FakeServer) -> dict[str, Any]:
    (request,) = server.requests
    return request.params


def test_start_prints_the_id_and_nothing_else(server: FakeServer, capfdbinary: Captured) -> None:
    assert run(server, "start", "ls", "/home/trent") == 0
    assert capfdbinary.readouterr() == (f"{ID}\n".encode(), b"")
    assert sent(server)["argv"] == ["ls", "/home/trent"]


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        pytest.param(["--", "ls", "-la"], ["ls", "-la"], id="-- ls -la"),
        pytest.param(["ls", "-d", "x", "--json"], ["ls", "-d", "x", "--json"], id="ls -d x --json"),
        pytest.param(["ls", "--", "-la"], ["ls", "--", "-la"], id="ls -- -la"),
        pytest.param(["--", "--", "x"], ["--", "x"], id="-- -- x"),
        pytest.param(["--", "-d", "x"], ["-d", "x"], id="-- -d x"),
        pytest.param(["echo", ""], ["echo", ""], id="echo and an empty word"),
        pytest.param(["ls", "--help"], ["ls", "--help"], id="ls --help"),
    ],
)
def test_options_end_at_the_command(server: FakeServer, words: list[str], argv: list[str]) -> None:
    assert run(server, "start", *words) == 0
    assert sent(server)["argv"] == argv
    assert sent(server)["cwd"] is None


def test_start_with_everything(server: FakeServer, capfdbinary: Captured) -> None:
    options = ["-d", "/first", "--directory=/srv", "-D", "A=1", "-DB=x=y", "--define", "C=", "-D", "A=2", "--merged"]
    assert run(server, "start", *options, "--grace", "2.5", "--log-cap=2G", "--user=bob", "--json", "--", "cmd") == 0
    out, err = capfdbinary.readouterr()
    assert json.loads(out) == record()
    assert out.count(b"\n") == 1
    assert err == b""
    params = sent(server)
    assert (params["cwd"], params["grace_s"]) == ("/srv", 2.5)
    assert (params["merged"], params["log_cap"]) == (True, 2 << 30)
    assert params["user"] == "bob"
    assert "stdin" not in params
    assert params["env"] == {"A": "2", "B": "x=y", "C": ""}


def test_query(capfdbinary: Captured) -> None:
    script = answering(
        record(),
        record(state="Signalled"),
        record(state="Finished", exit_code=0),
        record(state="Finished", exit_code=143, signal="SIGTERM"),
        record(state="BrutallyKilled", exit_code=137, signal="SIGKILL"),
        record(state="InternalServerError", reason="monitor lost"),
    )
    expected = [b"Running\n", b"Signalled\n", b"Finished\n0\n", b"Finished\n143\n", b"BrutallyKilled\n"]
    with FakeServer(script) as server:
        for text in expected:
            assert run(server, "query", ID) == 0
            assert capfdbinary.readouterr() == (text, b"")
        assert run(server, "query", ID) == 0
        assert capfdbinary.readouterr() == (b"InternalServerError\n", b"levity: monitor lost\n")


def test_query_says_why_a_task_waits(capfdbinary: Captured) -> None:
    with FakeServer(answering(record(waiting="no space on the host"))) as server:
        assert run(server, "query", ID) == 0
        assert capfdbinary.readouterr() == (b"Running\n", b"levity: it waits: no space on the host\n")


def test_query_json_wherever_the_option_stands(server: FakeServer, capfdbinary: Captured) -> None:
    for words in (["query", "--json", ID], ["query", ID, "--json"]):
        assert run(server, *words) == 0
        assert json.loads(capfdbinary.readouterr().out) == record()


def test_signal_says_nothing(server: FakeServer, capfdbinary: Captured) -> None:
    assert run(server, "signal", "--grace", "0", ID) == 0
    assert capfdbinary.readouterr() == (b"", b"")
    assert sent(server) == {"id": ID, "grace_s": 0.0}


def test_list(capfdbinary: Captured) -> None:
    page = {
        "tasks": [
            record(argv=["sh", "-c", "echo 'a b'; exit 3\n", "\udcff\x1b[31m", "né"]),
            record(state="NotStarted", started_at=None, argv=["true"]),
            record(state="Finished", exit_code=3, argv=["cat", "a b", ""]),
        ],
        "next": None,
    }
    with FakeServer(answering(page)) as server:
        assert run(server, "list", "--all") == 0
        table = capfdbinary.readouterr().out.decode()
        assert run(server, "list", "--json") == 0
        lines = capfdbinary.readouterr().out.splitlines()
    assert table == (
        "ID                                    STATE                CODE  STARTED               COMMAND\n"
        f"{ID}  Running                 -  2026-11-23T20:09:00Z  "
        r"sh -c $'echo \'a b\'; exit 3\n' $'\xff\x1b[31m' 'né'"
        "\n"
        f"{ID}  NotStarted              -  -                     true\n"
        f"{ID}  Finished                3  2026-11-23T20:09:00Z  cat 'a b' ''\n"
    )
    assert [json.loads(line) for line in lines] == page["tasks"]
    assert [request.params["all"] for request in server.requests] == [True, False]


def test_an_empty_list_is_its_head(capfdbinary: Captured) -> None:
    with FakeServer(answering({"tasks": [], "next": None})) as server:
        assert run(server, "list") == 0
        assert capfdbinary.readouterr().out.split() == [b"ID", b"STATE", b"CODE", b"STARTED", b"COMMAND"]
        assert run(server, "list", "--json") == 0
        assert capfdbinary.readouterr().out == b""


def test_info(capfdbinary: Captured) -> None:
    with FakeServer(answering({"version": "0.1.0", "state_dir": "/a\nb", "live": 2})) as server:
        assert run(server, "info") == 0
        out = capfdbinary.readouterr().out.decode()
        assert out == f"address: {server.address}\nversion: 0.1.0\nstate_dir: /a\\nb\nlive: 2\n"
        assert run(server, "info", "--json") == 0
        assert json.loads(capfdbinary.readouterr().out)["live"] == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(UnknownTask("no task 'x'"), 1, id="no such task"),
        pytest.param(AmbiguousTask("'3' is the beginning of 2 ids"), 1, id="an id of several tasks"),
        pytest.param(BadDirectory("no directory '/x'"), 1, id="no such directory"),
        pytest.param(NotExecutable("'/etc' is not executable"), 126, id="not executable"),
        pytest.param(CommandNotFound("no command 'lss'"), 127, id="no such command"),
    ],
)
def test_the_servers_errors(error: Any, code: int, capfdbinary: Captured) -> None:
    with FakeServer(answering(error)) as server:
        for words in (["start", "x"], ["query", "x"], ["signal", "x"], ["logs", "x"], ["list"], ["info"]):
            assert run(server, *words) == code
            assert capfdbinary.readouterr() == (b"", f"levity: {error.message}\n".encode())


def test_an_error_is_one_printable_line(capfdbinary: Captured) -> None:
    with FakeServer(answering(UnknownTask("a\nb\x1b[2J\udcff\u202eé"))) as server:
        assert run(server, "query", "x") == 1
    assert capfdbinary.readouterr().err == "levity: a\\nb\\x1b[2J\\xff\\u202eé\n".encode()


USAGE: list[tuple[list[str], str]] = [
    ([], "no command was given; see 'levity --help'"),
    (["frobnicate"], "there is no command 'frobnicate'; there are start, run, query"),
    (["--frob"], "option --frob not recognized; see 'levity --help'"),
    (["-t"], "option -t requires argument; see 'levity --help'"),
    (["-t", "soon", "query", "x"], "--timeout takes a number of seconds, not 'soon'"),
    (["-t", "0", "query", "x"], "a timeout of 0.0 s makes no sense"),
    (["-t", "nan", "query", "x"], "a timeout of nan s makes no sense"),
    (["-a", "", "query", "x"], "address '': the port is missing"),
    (["-a", "nowhere", "query", "x"], "address 'nowhere': the port is missing"),
    (["start"], "no command to start was given; see 'levity help start'"),
    (["start", "--"], "no command to start was given"),
    (["start", ""], "the command is empty"),
    (["start", "-D", "novalue", "ls"], "-D takes NAME=VALUE, not 'novalue'; see 'levity help start'"),
    (["start", "-D", "=x", "ls"], "-D takes NAME=VALUE, not '=x'"),
    (["start", "-d", "", "ls"], "--directory is empty"),
    (["start", "--grace", "x", "ls"], "--grace takes a number of seconds"),
    (["start", "--grace", "-1", "ls"], "the grace period makes no sense"),
    (["start", "-x", "ls"], "option -x not recognized; see 'levity help start'"),
    (["query"], "`levity query` takes one task id, none was given; see 'levity help query'"),
    (["query", "a", "b"], "takes one task id, 2 words were given"),
    (["query", ""], "'' is no task id"),
    (["signal"], "takes one task id"),
    (["start", "--log-cap", "x", "ls"], "'x' is no size"),
    (["start", "--log-cap", "5", "ls"], "the log cap is neither 0"),
    (["run"], "no command to start was given; see 'levity help run'"),
    (["run", "-i", "--stdin", "x", "cat"], "--interactive and --stdin exclude each other; see 'levity help run'"),
    (["run", "--json", "ls"], "option --json not recognized; see 'levity help run'"),
    (["run", "--grace", "-1", "ls"], "the grace period makes no sense"),
    (["wait"], "`levity wait` takes the id of a task, or several; none was given; see 'levity help wait'"),
    (["wait", "--timeout", "-1", "x"], "a wait of -1.0 s makes no sense"),
    (["wait", "--timeout", "nan", "x"], "a wait of nan s makes no sense"),
    (["wait", "--timeout", "soon", "x"], "--timeout takes a number of seconds"),
    (["wait", "x", ""], "'' is no task id"),
    (["wait", *["x"] * 1001], "a wait is for 1 to 1000 tasks, not 1001"),
    (["logs"], "`levity logs` takes the id of a task, or several; none was given; see 'levity help logs'"),
    (["logs", "-x", "x"], "option -x not recognized; see 'levity help logs'"),
    (["logs", "-n", "-1", "x"], "-n takes a number of lines (of 18 digits at most) or `all`, not '-1'"),
    (["logs", "--tail", "9" * 19, "x"], "-n takes a number of lines"),
    (["logs", "--since", "yesterday", "x"], "--since takes a time like 2026-11-24T09:41:02Z, seconds since"),
    (["logs", "--until", "", "x"], "--until takes a time"),
    (["logs", "-t", ""], "'' is no task id"),
    (["list", "x"], "`levity list` takes no 'x'; see 'levity help list'"),
    (["info", "x"], "takes no 'x'"),
    (["help", "frob"], "there is no help on 'frob'"),
    (["help", "start", "query"], "there is no help on 'start query'"),
]


@pytest.mark.parametrize(("words", "message"), USAGE, ids=[" ".join(words)[:40] or "nothing" for words, _ in USAGE])
def test_a_wrong_command_line(
    words: list[str], message: str, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEVITY_ADDR", "127.0.0.1:1")
    assert main(words) == 2
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert err.startswith(b"levity: ")
    assert message in err.decode()
    assert err.count(b"\n") == 1


def test_no_levityd_there(capfdbinary: Captured) -> None:
    with FakeServer(host="127.0.0.1") as server:
        address = server.address
    assert run(address, "query", "x") == 255
    err = capfdbinary.readouterr().err.decode()
    assert err.startswith(f"levity: no levityd listens at {address} (Connection refused); start one there")


def test_no_answer_in_time(capfdbinary: Captured) -> None:
    def silent(peer: Peer) -> None:
        peer.hello()
        peer.wait_gone()

    with FakeServer(silent) as server:
        assert main(["-a", server.address, "-t", "2", "query", "x"]) == 255
    assert b"did not answer within 2 s" in capfdbinary.readouterr().err


def test_info_says_who_one_is(capfdbinary: Captured) -> None:
    answer = {"version": "0.1.0", "user": "alice", "role": "viewer"}
    with FakeServer(answering(answer)) as server:
        assert run(server, "info") == 0
    assert capfdbinary.readouterr().out.endswith(b"version: 0.1.0\nuser: alice\nrole: viewer\n")


def test_the_json_has_owner_and_user(capfdbinary: Captured) -> None:
    whole = record(owner="alice", user="bob")
    with FakeServer(answering(whole)) as server:
        assert run(server, "query", "--json", ID) == 0
    assert json.loads(capfdbinary.readouterr().out) == whole


def test_the_address_from_the_environment(
    server: FakeServer, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEVITY_ADDR", server.address)
    assert main(["query", ID]) == 0
    assert main(["--address=127.0.0.1:1", "query", ID]) == 255
    assert capfdbinary.readouterr().out == b"Running\n"


def test_version(capfdbinary: Captured) -> None:
    assert main(["--version"]) == 0
    assert capfdbinary.readouterr().out == b"levity 0.1.0\n"


def test_bytes_of_the_command_line_reach_the_host(server: FakeServer) -> None:
    word = os.fsdecode(bytes(range(1, 256)).replace(b"=", b""))
    assert run(server, "start", "-d", word, "-D", f"{word}={word}", "--", "echo", word) == 0
    params = sent(server)
    wire = os.fsencode(word).decode("utf-8", "surrogateescape")
    assert (params["argv"], params["cwd"], params["env"]) == (["echo", wire], wire, {wire: wire})
