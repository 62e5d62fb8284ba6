"""What engine and zygote say to each other: it comes as it was said, and a packet that is none is None."""

import errno
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.spool.start_failure import DIRECTORY, EXEC, FORK, HOST, StartFailure
from supervisor.spool.zygote_messages import PACKET_LIMIT, VERBS, Gone, fork_packet, gone_packet, parse_fork, parse_gone

ID = str(uuid.UUID(int=7))


@given(st.uuids())
def test_a_request_to_fork_comes_as_it_was_said(task_id: uuid.UUID) -> None:
    packet = fork_packet(str(task_id))
    assert parse_fork(packet) == str(task_id)
    assert len(packet) <= PACKET_LIMIT


def test_an_older_engine_says_nothing_but_the_id() -> None:
    assert parse_fork(ID.encode()) == ID


@given(
    st.integers(-64, 255),
    st.none() | st.builds(StartFailure, st.sampled_from([FORK, HOST, DIRECTORY, EXEC]), st.integers(1, 133)),
)
def test_how_a_shim_left_comes_as_it_was_said(status: int, failure: StartFailure | None) -> None:
    packet = gone_packet(Gone(ID, status, failure), VERBS)
    found = parse_gone(packet)
    assert found is not None
    assert (found.id, found.status, found.failure) == (ID, status, failure)
    assert len(packet) <= PACKET_LIMIT


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (None, 0),
        (StartFailure(EXEC, errno.ENOENT), 0x80 | errno.ENOENT),
        (StartFailure(DIRECTORY, errno.EACCES), 0x40 | errno.EACCES),
        (StartFailure(HOST, errno.ENOSPC), errno.ENOSPC),
        (StartFailure(FORK, errno.EAGAIN), errno.EAGAIN),
        (StartFailure(HOST, errno.EDQUOT), errno.EIO),
    ],
)
def test_an_older_engine_is_told_in_an_exit_status(failure: StartFailure | None, status: int) -> None:
    assert gone_packet(Gone(ID, 0 if failure is None else 1, failure), 0) == f"gone {ID} {status}".encode()


NOISE = [
    b"",
    b" ",
    b"gone",
    f"gone {ID}".encode(),
    f"gone {ID} x".encode(),
    b"gone 7 0",
    f"here {ID} 0".encode(),
    f"{ID} fork".encode(),
    b"fork",
    b"\xff\xfe",
    b"{}",
    b"g" * PACKET_LIMIT,
]


@pytest.mark.parametrize("packet", NOISE)
def test_noise_is_nothing(packet: bytes) -> None:
    assert parse_gone(packet) is None
    assert not parse_fork(packet)


@given(st.binary(max_size=PACKET_LIMIT))
def test_any_bytes_are_something_or_nothing(packet: bytes) -> None:
    parse_gone(packet)
    parse_fork(packet)


@pytest.mark.parametrize("rest", ["?", "exec:", ":", "? more", "exec:x more words"])
def test_a_failure_that_is_not_understood_is_none_and_the_rest_counts(rest: str) -> None:
    found = parse_gone(f"gone {ID} 1 {rest}".encode())
    assert found is not None
    assert (found.status, found.failure) == (1, None)


def test_words_of_a_newer_version_are_ignored() -> None:
    assert parse_fork(f"fork {ID} soon".encode()) == ID
    found = parse_gone(f"gone {ID} 1 exec:2 later".encode())
    assert found is not None
    assert found.failure == StartFailure(EXEC, 2)
