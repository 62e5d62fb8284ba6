"""docs/protocol.md is true: its client works, its bytes are those on the wire, its records are whole."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from levity import Client
from levity.protocol.frames import Frame, FrameDecoder
from levity.protocol.messages import parse_reply
from levity.protocol.text import text_to_bytes
from tests.support.daemon import Daemon
from tests.support.deadline import eventually
from tests.support.documents import page, section

PAGE = page("docs/protocol.md")


def dumped_frames() -> list[bytes]:
    """Return the frames of the section with the dumps: a paragraph of indented lines each."""
    dumps = re.findall(r"(?:^    .*\n)+", section(PAGE, "Byte by byte"), re.MULTILINE)
    return [b"".join(bytes.fromhex(line[4:46]) for line in dump.splitlines()) for dump in dumps]


def decoded(data: bytes) -> Frame:
    decoder = FrameDecoder()
    decoder.feed(data)
    frame = decoder.next_frame()
    assert isinstance(frame, Frame), "a frame is not whole"
    assert not decoder.pending
    return frame


@pytest.fixture(scope="module")
def client() -> str:
    found = re.search(r"```python\n(.*?)```", section(PAGE, "A client"), re.DOTALL)
    assert found
    return found[1]


def run_client(client: str, daemon: Daemon, *command: str) -> "subprocess.CompletedProcess[bytes]":
    host, _colon, port = str(daemon.address).rpartition(":")
    # -I -S: nothing but the standard library can be imported, and so no levity.
    argv = [sys.executable, "-I", "-S", "-c", client, host, port, str(daemon.token_file), *command]
    return subprocess.run(argv, capture_output=True, timeout=30, check=False)


def test_its_client_does_what_it_says(client: str, make_daemon: Callable[..., Daemon]) -> None:
    assert "import levity" not in client
    daemon = make_daemon("127.0.0.1:0").start()
    done = run_client(client, daemon, "sh", "-c", "printf 'a\\377b'; echo oh >&2; exit 7")
    missing = run_client(client, daemon, "/no/such/command")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\xffb", b"oh\n")
    assert missing.returncode == 1
    assert b"no such file" in missing.stderr


def test_its_bytes_are_those_on_the_wire(daemon: Daemon) -> None:
    request, refusal, output = dumped_frames()
    assert daemon.address is not None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(daemon.address.removeprefix("unix:"))
        sock.sendall(request)
        frames = list[Frame]()
        decoder = FrameDecoder()

        def both_came() -> bool:
            decoder.feed(sock.recv(65536))
            while isinstance(frame := decoder.next_frame(), Frame):
                frames.append(frame)
            return len(frames) == 2

        eventually(both_came, "greeting and reply")
    came, told = parse_reply(frames[1].body), parse_reply(decoded(refusal).body)
    assert came.error
    assert told.error
    assert (came.id, type(came.error)) == (told.id, type(told.error))
    assert came.error.message.startswith(told.error.message)
    assert decoded(output) == Frame(1, b"hi\n", 1795467212525041978)


def test_its_example_of_bytes_in_json() -> None:
    assert r'the bytes `61 ff 62` are `"a\udcffb"`' in " ".join(PAGE.split())
    assert text_to_bytes("a\udcffb") == bytes.fromhex("61 ff 62")


def test_it_describes_every_key_of_a_record(daemon: Daemon) -> None:
    with Client(daemon.address) as client:
        record = client.submit(["true"]).raw
        info = client.info()
    assert all(f"`{key}`" in section(PAGE, "A record") for key in record)
    assert all(f"`{key}`" in section(PAGE, "server.info") for key in info)
