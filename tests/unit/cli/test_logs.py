"""`levity logs`: its output in every form. Runs in: pytest."""

import base64
import json
import signal
import subprocess
import threading
from collections.abc import Sequence

import pytest

from levity.cli.main import main
from levity.cli.render.line_renderer import HELD_LIMIT_BYTES
from levity.cli.render.printers import LinePrinter, OpenLines
from levity.errors import UnknownTask
from levity.operations.logs import LogChunk
from levity.protocol.frames import STDERR, STDOUT
from tests.support.deadline import eventually
from tests.support.fake_server import ID, FakeServer, Peer, Script, answering, serving_log
from tests.support.paths import clean_environment, levity_command

Captured = pytest.CaptureFixture[bytes]
LIMIT_S = 30
# 2026-11-24T09:41:02.000000005Z
T = 1_795_513_262 * 10**9 + 5
STAMP = b"2026-11-24T09:41:02.000000005Z "
OTHER = "9c1e0000-0b7d-4e55-9a51-2f0c6d1b8e42"
TOTAL = {"stdout": 0, "stderr": 0}


def run(server: FakeServer, *words: str) -> int:
    return main(["-a", server.address, "logs", *words])


def test_bytes_go_where_they_belong_unchanged(capfdbinary: Captured) -> None:
    out, err = bytes(range(256)) * 3000, b"\xff\0\r\n" + bytes(reversed(range(256)))
    with FakeServer(serving_log([(STDOUT, out[:1000]), (STDERR, err), (STDOUT, out[1000:])])) as server:
        assert run(server, ID) == 0
    assert capfdbinary.readouterr() == (out, err)
    assert set(server.requests[0].params) == {"id", "heartbeat_s"}


def test_a_log_that_is_not_whole(capfdbinary: Captured) -> None:
    def script(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        peer.begin()
        peer.reply(request, {"stdout": 7, "stderr": 0})

    with FakeServer(script) as server:
        assert run(server, ID) == 1
    assert capfdbinary.readouterr() == (b"", b"levity: the log is incomplete: 0 of 7 bytes of stdout came\n")


def test_every_option_is_sent() -> None:
    with FakeServer(serving_log([])) as server:
        assert run(server, "-f", "-n", "5", "--since", "10m", "--until", "1.5", "--stderr", "-t", ID) == 0
        assert run(server, "--follow", "--tail=all", "--since=2026-11-24T09:41:02.000000005Z", "--json", ID) == 0
        assert run(server, "--stdout", "--stderr", "--until", "2s", ID) == 0
        assert run(server, "-ft", ID) == 0
    first, second, third, fourth = (request.params for request in server.requests)
    beat = {"heartbeat_s": 10.0, "id": ID}
    assert first == beat | {
        "follow": True,
        "tail": 5,
        "since_ago_ns": 600 * 10**9,
        "until_ns": 1_500_000_000,
        "streams": ["stderr"],
        "exact_times": True,
    }
    assert second == beat | {"follow": True, "since_ns": T, "exact_times": True}
    assert third.pop("until_ago_ns") >= 2 * 10**9
    assert third == beat | {"streams": ["stdout", "stderr"]}
    assert fourth == beat | {"follow": True, "exact_times": True}


def test_the_global_timeout_and_the_commands_own_t(capfdbinary: Captured) -> None:
    with FakeServer(answering(UnknownTask("no task"))) as server:
        assert main(["-a", server.address, "-t", "6", "logs", "-t", ID]) == 1
    assert server.requests[0].params["heartbeat_s"] == 2.0
    assert server.requests[0].params["exact_times"] is True
    assert capfdbinary.readouterr().err == b"levity: no task\n"


def writes(*frames: tuple[int, bytes, int], id: str = ID) -> Script:
    """Return a script of output frames with their times."""

    def script(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        peer.begin(id=id)
        total = dict(TOTAL)
        for stream, data, time_ns in frames:
            peer.output(stream, data, time_ns)
            total["stdout" if stream == STDOUT else "stderr"] += len(data)
        peer.reply(request, total)

    return script


def test_lines_with_their_times_and_where_they_are_from(capfdbinary: Captured) -> None:
    frames = [
        (STDOUT, b"on", T),
        (STDERR, b"bad\n\n", T),
        (STDOUT, b"e\ntwo\nth", T + 10**9),
        (STDOUT, b"ree", T + 2 * 10**9),
    ]
    later = STAMP.replace(b"02.", b"03.")
    with FakeServer(writes(*frames)) as server:
        assert run(server, "-t", ID) == 0
        out, err = capfdbinary.readouterr()
        assert out == STAMP + b"one\n" + later + b"two\n" + later + b"three"
        assert err == STAMP + b"bad\n" + STAMP + b"\n"
        assert run(server, "--prefix", ID) == 0
        out, err = capfdbinary.readouterr()
        assert out == b"3f2a9c1e out one\n3f2a9c1e out two\n3f2a9c1e out three"
        assert err == b"3f2a9c1e err bad\n3f2a9c1e err \n"
        assert run(server, "--prefix", "-t", ID) == 0
        assert capfdbinary.readouterr().err == (STAMP + b"3f2a9c1e err bad\n" + STAMP + b"3f2a9c1e err \n")


def objects(text: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json(capfdbinary: Captured) -> None:
    euro = "€".encode()
    frames = [(STDOUT, b"one " + euro[:1], T), (STDERR, b"\xff\n", T), (STDOUT, euro[1:] + b"\n" + euro[:2], T + 1)]
    with FakeServer(writes(*frames)) as server:
        assert run(server, "--json", ID) == 0
    out, err = capfdbinary.readouterr()
    stamp = STAMP.decode().strip()
    assert objects(out) == [
        {"task": ID, "stream": "stdout", "time": stamp, "text": "one "},
        {"task": ID, "stream": "stderr", "time": stamp, "base64": base64.b64encode(b"\xff\n").decode()},
        {"task": ID, "stream": "stdout", "time": stamp, "text": "€\n"},
        {"task": ID, "stream": "stdout", "time": stamp[:-2] + "6Z", "base64": base64.b64encode(euro[:2]).decode()},
    ]
    assert err == b""


def gaps(peer: Peer) -> None:
    peer.hello()
    request = peer.request()
    peer.begin()
    peer.output(STDOUT, b"abc", T)
    peer.notify("log.dropped", stream="stdout", bytes=7)
    peer.output(STDOUT, b"def\nghi\n", T)
    peer.notify("log.unordered", stdout=0, stderr=4)
    peer.output(STDERR, b"late", T)
    peer.reply(request, {"stdout": 18, "stderr": 4})


def test_missing_bytes_are_told(capfdbinary: Captured) -> None:
    dropped = b"levity: 7 bytes of stdout dropped, to keep within the limits of levityd or the task\n"
    unordered = b"levity: the order and times of the next 4 bytes of stderr are not known\n"
    with FakeServer(gaps) as server:
        assert run(server, ID) == 0
        assert capfdbinary.readouterr() == (b"abcdef\nghi\n", dropped + unordered + b"late")
        assert run(server, "--prefix", ID) == 0
        out, err = capfdbinary.readouterr()
        assert out == b"3f2a9c1e out abcdef\n3f2a9c1e out ghi\n"
        assert err == dropped + unordered + b"3f2a9c1e err late"
        assert run(server, "--json", ID) == 0
        out, err = capfdbinary.readouterr()
    assert err == b""
    assert objects(out)[1] == {"task": ID, "stream": "stdout", "dropped": 7}
    assert objects(out)[3] == {"task": ID, "stream": "stderr", "unordered": 4}


def damaged(peer: Peer) -> None:
    peer.hello()
    request = peer.request()
    peer.begin()
    peer.output(STDOUT, b"abc", T)
    peer.notify("log.dropped", stream="stdout", bytes=1, lost=True)
    peer.notify("log.unordered", stdout=2, stderr=0)
    peer.output(STDOUT, b"e\n", 0)
    peer.reply(request, {"stdout": 6, "stderr": 0})


def test_a_damaged_log_is_written_as_far_as_it_goes_and_fails(capfdbinary: Captured) -> None:
    with FakeServer(damaged) as server:
        assert run(server, ID) == 1
        out, err = capfdbinary.readouterr()
        assert out == b"abce\n"
        assert err.splitlines()[0] == b"levity: 1 byte of stdout lost: the log is damaged"
        assert err.splitlines()[-1] == b"levity: the log is damaged: bytes of stdout that are lost: 1"
        assert run(server, "--json", ID) == 1
        out, err = capfdbinary.readouterr()
        assert [item.get("lost") for item in objects(out)] == [None, 1, None, None]
        assert objects(out)[3]["time"] is None
        assert run(server, "-t", ID) == 1
        assert capfdbinary.readouterr().out.endswith(b"Z abce\n")


def by_id(**scripts: Sequence[tuple[int, bytes, int]]) -> Script:
    """Return a script with the logs of these tasks; others are unknown."""

    def script(peer: Peer) -> None:
        peer.hello()
        request = peer.request()
        name = request.params["id"]
        if name not in scripts:
            peer.reply(request, UnknownTask(f"no task has the id {name!r}"))
            return
        peer.begin(id=name * 9)
        for stream, data, time_ns in scripts[name]:
            peer.output(stream, data, time_ns)
        peer.reply(request, {"stdout": sum(len(data) for _, data, _ in scripts[name]), "stderr": 0})

    return script


def test_several_tasks_one_after_the_other(capfdbinary: Captured) -> None:
    with FakeServer(by_id(a=[(STDOUT, b"a1\na2", T)], b=[(STDOUT, b"b1\n", T)])) as server:
        assert run(server, "b", "a") == 0
        assert capfdbinary.readouterr() == (b"b1\na1\na2", b"")
        assert run(server, "a", "x", "b") == 1
        assert capfdbinary.readouterr() == (b"a1\na2b1\n", b"levity: x: no task has the id 'x'\n")
        assert run(server, "--prefix", "a", "b") == 0
        assert capfdbinary.readouterr().out == b"aaaaaaaa out a1\naaaaaaaa out a2\nbbbbbbbb out b1\n"


LONG = b"x" * (HELD_LIMIT_BYTES + 1)


@pytest.mark.parametrize("options", [["--prefix"], ["--prefix", "-f"]], ids=" ".join)
def test_a_last_line_without_an_end_is_ended_before_another_tasks(capfdbinary: Captured, options: list[str]) -> None:
    """Also if nothing of it is held back any more."""
    with FakeServer(by_id(a=[(STDOUT, LONG, T)], b=[(STDOUT, b"b1", T)])) as server:
        assert run(server, *options, "a", "b") == 0
        out = capfdbinary.readouterr().out
        assert sorted(out.splitlines(keepends=True)) == [b"aaaaaaaa out " + LONG + b"\n", b"bbbbbbbb out b1\n"]
        # The log of a single task stays as it is.
        assert run(server, *options, "a") == 0
        assert capfdbinary.readouterr().out == b"aaaaaaaa out " + LONG


def test_no_line_goes_on_with_another_tasks_however_long_it_is(capfdbinary: Captured) -> None:
    open_lines = OpenLines()
    one, other = (LinePrinter(prefix=True, open_lines=open_lines) for _ in range(2))

    def take(show: LinePrinter, name: str, data: bytes) -> None:
        show.take(LogChunk(name * 9, "stdout", T, data, (0, 0)))

    take(one, "a", LONG)  # Too much to be held back.
    take(one, "a", LONG)
    take(other, "b", b"b1\nb2")
    take(one, "a", b"end\na2")
    other.finish()
    one.finish()
    expected = [b"aaaaaaaa out " + LONG * 2, b"bbbbbbbb out b1", b"end", b"bbbbbbbb out b2", b"aaaaaaaa out a2"]
    assert capfdbinary.readouterr() == (b"\n".join(expected) + b"\n", b"")


def with_holes(peer: Peer) -> None:
    """Send logs that end in the middle of a line, with a note about lost or dropped bytes."""
    peer.hello()
    request = peer.request()
    name = request.params["id"]
    peer.begin()
    if name == "empty":
        peer.reply(request, TOTAL)
        return
    peer.output(STDOUT, b"abc", T)
    peer.notify("log.dropped", stream="stdout", bytes=7, lost=name == "lost")
    rest = b"def" if name == "more" else b""
    if rest:
        peer.output(STDOUT, rest, T)
    peer.reply(request, {"stdout": 10 + len(rest), "stderr": 0})


@pytest.mark.parametrize("options", [["--prefix"], ["--prefix", "-f"]], ids=" ".join)
@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        pytest.param("cut", b"abc", 0, id="the hole is at the end"),
        pytest.param("more", b"abcdef", 0, id="more comes after the hole"),
        pytest.param("lost", b"abc", 1, id="the bytes are lost"),
    ],
)
def test_a_line_with_a_hole_is_ended_too(
    capfdbinary: Captured, options: list[str], name: str, text: bytes, code: int
) -> None:
    with FakeServer(with_holes) as server:
        assert run(server, *options, name, "empty") == code
    assert capfdbinary.readouterr().out == b"3f2a9c1e out " + text + b"\n"


def damaged_in_a_line(peer: Peer) -> None:
    peer.hello()
    request = peer.request()
    peer.begin()
    peer.notify("log.dropped", stream="stdout", bytes=1, lost=True)
    peer.output(STDOUT, b"bc", T)
    peer.reply(request, {"stdout": 3, "stderr": 0})


@pytest.mark.parametrize("ids", [pytest.param([ID], id="one task"), pytest.param([ID, OTHER], id="two tasks")])
@pytest.mark.parametrize("options", [["--prefix"], ["--prefix", "-f"]], ids=" ".join)
def test_held_back_bytes_of_a_damaged_log_are_written(
    capfdbinary: Captured, options: list[str], ids: list[str]
) -> None:
    with FakeServer(damaged_in_a_line) as server:
        assert run(server, *options, *ids) == 1
    end = b"\n" if len(ids) > 1 else b""
    assert capfdbinary.readouterr().out == (b"3f2a9c1e out bc" + end) * len(ids)


def test_several_tasks_at_once_by_whole_lines(capfdbinary: Captured) -> None:
    logs = {name: [(STDOUT, name.encode(), T), (STDOUT, b"%d\n" % n, T)] * 200 for n, name in enumerate("abcd")}
    with FakeServer(by_id(**logs)) as server:
        assert run(server, "-f", "a", "b", "x", "c", "d") == 1
        out, err = capfdbinary.readouterr()
        assert sorted(set(out.splitlines())) == [b"a0", b"b1", b"c2", b"d3"]
        assert len(out.splitlines()) == 800
        assert err == b"levity: x: no task has the id 'x'\n"
        assert run(server, "-f", "--json", "a", "b") == 0
        assert len(objects(capfdbinary.readouterr().out)) == 800


def test_no_line_is_joined_with_one_of_another_task(capfdbinary: Captured) -> None:
    turns = [threading.Semaphore(1), threading.Semaphore(0)]

    def script(peer: Peer) -> None:
        """Each of two tasks writes half a line whenever the other one has."""
        peer.hello()
        request = peer.request()
        number = "ab".index(request.params["id"])
        peer.begin()
        for piece in (b"one ", b"two\n") * 50:
            assert turns[number].acquire(timeout=LIMIT_S)
            peer.output(STDOUT, piece)
            turns[1 - number].release()
        peer.reply(request, {"stdout": 400, "stderr": 0})

    with FakeServer(script) as server:
        assert run(server, "-f", "a", "b") == 0
    assert capfdbinary.readouterr() == (b"one two\n" * 100, b"")


def test_lines_longer_than_a_pipe_takes_at_once_stay_whole() -> None:
    lines = {name: name.encode() * 50_000 + b"\n" for name in "abcd"}
    logs = {name: [(STDOUT, line, T)] * 20 for name, line in lines.items()}
    with FakeServer(by_id(**logs)) as server:
        command = [*levity_command(), "-a", server.address, "logs", "-f", *"abcd"]
        done = subprocess.run(command, capture_output=True, env=clean_environment(), timeout=LIMIT_S, check=False)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines(keepends=True)) == sorted([*lines.values()] * 20)


def endless(peer: Peer) -> None:
    peer.hello()
    peer.request()
    peer.begin()
    while True:
        peer.output(STDOUT, b"line\n" * 1000)


@pytest.mark.parametrize("options", ["", "-f", "-t", "--json", f"-f {OTHER}"])
def test_a_reader_that_leaves_ends_it_quietly(options: str) -> None:
    with FakeServer(endless) as server:
        command = ["bash", "-c", f'set -o pipefail; "$@" logs {options} {ID} | head -n 1', "bash", *levity_command()]
        done = subprocess.run(
            [*command, "-a", server.address], capture_output=True, env=clean_environment(), timeout=LIMIT_S, check=False
        )
    assert (done.stdout.count(b"\n"), done.stderr, done.returncode) == (1, b"", 141)


@pytest.mark.parametrize("ids", [pytest.param([ID], id="one task"), pytest.param([ID, OTHER], id="two tasks")])
def test_ctrl_c_leaves_the_task_alone(ids: list[str]) -> None:
    def quiet(peer: Peer) -> None:
        peer.hello()
        peer.request()
        peer.begin()
        peer.wait_gone()

    with FakeServer(quiet) as server:
        command = [*levity_command(), "-a", server.address, "logs", "-f", *ids]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
        ) as client:
            try:
                eventually(lambda: len(server.requests) == len(ids), "the requests")
                client.send_signal(signal.SIGINT)
                out, err = client.communicate(timeout=LIMIT_S)
            finally:
                client.kill()
    assert (client.returncode, out, err) == (130, b"", b"")
    assert set(server.methods()) == {"task.logs"}
