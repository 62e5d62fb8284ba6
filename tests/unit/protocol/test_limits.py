"""The limits of the protocol: the document says the same numbers, and the client keeps within them. Runs in: pytest."""

import re

import pytest

from levity import client
from levity.operations import stdin
from levity.protocol import frames, limits
from tests.support.paths import ROOT

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("field", "said"),
    [
        pytest.param("grace_s", f"from 0 to {limits.GRACE_LIMIT_S};", id="the longest grace period"),
        pytest.param("limit", f"from 1 to {limits.PAGE_LIMIT} ", id="the records in a page"),
        pytest.param(
            "heartbeat_s",
            f"{limits.HEARTBEAT_LEAST_S:g} to {limits.HEARTBEAT_LIMIT_S:g}, {limits.HEARTBEAT_DEFAULT_S:g} if missing",
            id="the time between heartbeats",
        ),
        pytest.param("ids", f"1 to {limits.WAIT_IDS_LIMIT} ids", id="the ids in one wait"),
        pytest.param("data", f"at most {limits.STDIN_DATA_LIMIT // MIB} MiB", id="the input in one request"),
        pytest.param("limit_bytes", f"{limits.STDIN_UNREAD_LIMIT // MIB} MiB if missing", id="the input stored unread"),
    ],
)
def test_the_document_says_the_limit_of_a_parameter(field: str, said: str) -> None:
    rows = re.findall(rf"^\| `{field}` \|.*$", PROTOCOL, re.MULTILINE)
    assert any(said in row for row in rows), rows


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(
            f"| a frame to levityd | {frames.UNAUTHENTICATED_FRAME_LIMIT // 1024} KiB until the client is known, "
            f"then {frames.FRAME_LIMIT // MIB} MiB |",
            id="a frame to levityd",
        ),
        pytest.param(f"output {frames.CHUNK_LIMIT // MIB} MiB + 9 bytes |", id="a frame of output"),
    ],
)
def test_the_document_says_the_limits_of_frames(said: str) -> None:
    assert said in PROTOCOL


def test_the_client_asks_for_no_more_than_levityd_takes() -> None:
    assert client.PAGE <= limits.PAGE_LIMIT
    assert stdin.CHUNK_BYTES <= limits.STDIN_DATA_LIMIT
