"""Any bytes of an unauthenticated client or of an attacker in the front-end: no unforeseen exception, no way in."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contrib.fuzz.targets import TARGETS, decode, handshake, pipe
from levity.errors import LevityError
from levity.protocol.frames import json_frame
from levity.protocol.messages import dump_object, request_frame
from supervisor.engine.access.audit_log import Audit
from supervisor.engine.access.authenticator import Authenticator
from supervisor.engine.operations.frontend import FrontendOperations
from supervisor.engine.operations.request import EngineRequest
from supervisor.security.tokens import TokenStore
from supervisor.settings import Access, Known
from tests.support.paths import ROOT, clean_environment

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates, too: JSON can carry them.
    | st.text(st.characters(), max_size=80)
    | st.binary(max_size=40).map(bytes.hex)
    | st.just("ab" * 32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=12), values, max_size=5)
METHODS = ["auth.begin", "auth.finish", "auth.peer", "task.start", "server.info", "__class__", "hello", ""]
messages = st.fixed_dictionaries(
    {"jsonrpc": st.sampled_from(["2.0", "2.0", "1.0"]), "method": st.sampled_from(METHODS) | values},
    optional={
        "id": st.just(0) | values,
        "params": st.fixed_dictionaries({}, optional={"nonce": values, "proof": values}) | values,
    },
)
frames = st.one_of(
    messages.map(lambda message: json_frame(dump_object(message))),
    st.binary(max_size=100).map(json_frame),
    st.binary(max_size=60),
)
streams = st.lists(frames, max_size=5).map(b"".join)


@settings(max_examples=60)
@given(streams)
def test_the_decoder_takes_anything(data: bytes) -> None:
    decode(data)


@settings(max_examples=100)
@given(streams)
def test_no_bytes_let_an_unauthenticated_client_in(data: bytes) -> None:
    assert not handshake(data)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["begin", "finish", "wrong", "other"]), max_size=4), streams)
def test_only_the_two_steps_in_their_order_let_in(steps: list[str], tail: bytes) -> None:
    frames_of = {
        "begin": request_frame(0, "auth.begin", {"nonce": "00"}),
        "finish": request_frame(0, "auth.finish", {"proof": "11"}),
        "wrong": request_frame(0, "auth.finish", {"proof": "12"}),
        "other": request_frame(1, "task.start", {"argv": ["true"]}),
    }
    is_in = handshake(b"".join(frames_of[step] for step in steps) + tail * (len(steps) > 1), "11")
    assert is_in or steps[:2] != ["begin", "finish"]
    assert not is_in or steps[:2] == ["begin", "finish"]


@settings(max_examples=100)
@given(st.binary(max_size=3000))
def test_the_pipe_takes_any_split_of_bytes_and_descriptors(data: bytes) -> None:
    pipe(data)


def test_the_pipe_refuses_too_many_descriptors() -> None:
    pipe(b"\x01x" * 100)


# The engine's side


@pytest.fixture(scope="module", params=list(Known))
def operations(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontendOperations]:
    place = tmp_path_factory.mktemp("state")
    place.chmod(0o700)
    with TokenStore(str(place)) as store:
        store.ensure_own()
        authenticator = Authenticator(Access(request.param), "unix:/nowhere", store, bytes(32))
        audit = Audit(str(place / "audit.log"))
        audit.write_refused(peer="x", reason="so that its file is open")

        def find(*_: object) -> str:
            raise AssertionError("a task is looked for, though no ticket is valid")

        yield FrontendOperations(authenticator, audit, None, find, lambda _token: None)
        audit.close()


KEYS = ["server_nonce", "client_nonce", "binding", "proof", "peer", "names", "not_after", "crl"]
KEYS += ["reason", "id", "for", "token", "known"]
ASKED = ["auth.peer", "auth.begin", "auth.finish", "auth.certificate", "auth.rejected", "auth.check"]
ASKED += ["spool.open", "task.unwait"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(ASKED),
    st.dictionaries(st.sampled_from(KEYS), values, max_size=len(KEYS)),
    st.text(st.characters(), max_size=200) | st.just("e30.00"),
    st.sampled_from(["none", "file", "pair"]),
)
def test_the_engine_takes_any_request_of_a_front_end(
    operations: FrontendOperations, capfd: pytest.CaptureFixture[str], method: str, params: Any, ticket: str, shown: str
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = -1 if shown == "none" else os.dup(ours.fileno()) if shown == "pair" else os.open(os.devnull, os.O_RDONLY)
        try:
            result, lent = operations.handle(EngineRequest(method, params, ticket), fd)
        except LevityError:
            result, lent = {}, -1
    assert lent == -1
    if "ticket" in result:
        # The one thing that it takes the front-end's word for.
        assert method == "auth.certificate"
        assert len(params["names"]) == 1
    assert "levityd: engine" not in capfd.readouterr().err, "an exception that was not thought of"


# The fuzzer


def test_every_target_takes_random_bytes() -> None:
    for target in TARGETS.values():
        for size in (0, 1, 5, 4000):
            target(os.urandom(size))


@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzer_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "contrib/fuzz/run.py", name, "-runs=300", "-max_len=2000"],
        cwd=tmp_path,
        capture_output=True,
        env=clean_environment(),
        timeout=50,
        check=False,
    )
    if done.returncode == 77:
        assert b"atheris is not installed" in done.stderr
        pytest.skip("atheris is not installed")
    assert done.returncode == 0, done.stderr[-2000:]
