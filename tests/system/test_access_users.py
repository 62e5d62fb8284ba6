"""What one user finds out of another's tasks: nothing. Every operation, by every way of being known."""

import json
import os
import statistics
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from levity import Client
from levity.protocol.messages import request_frame
from supervisor.security.roles import Role
from tests.support.attack import INNER, connect, enter, read_one, secure
from tests.support.crowd import Asker, LocalUser, WireUser, socket_place
from tests.support.daemon import Daemon
from tests.support.guarded import Guarded, Guards

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes other users")
JsonObject = dict[str, Any]
# No account has these numbers.
ALICE_UID, BOB_UID = 54331, 54332


@dataclass(frozen=True)
class Pair:
    """Two users of one levityd who may both have tasks; `root` may do everything."""

    alice: Asker
    bob: Asker
    root: Client

    def __post_init__(self) -> None:
        self.root.info()  # Connects, so that no test seems to leave that behind.

    def start(self, name: str, task_id: str, script: str = "exec sleep 600") -> None:
        asker: Asker = getattr(self, name)
        argv = ["/bin/sh", "-c", script]
        (body,), _took = asker.ask([request_frame(1, "task.start", {"id": task_id, "argv": argv})])
        assert "result" in json.loads(body), body


@pytest.fixture(scope="module")
def unix_pair() -> Iterator[Pair]:
    with socket_place() as place:
        daemon = Daemon(f"unix:{place}/socket")
        try:
            daemon.start()
            with Client(daemon.address) as root:
                path = f"{place}/socket"
                yield Pair(LocalUser(path, ALICE_UID), LocalUser(path, BOB_UID), root)
        finally:
            daemon.end()


# Accounts that every Debian has, so that tasks can run as them.
NAMES = ("daemon", "nobody")


@pytest.fixture(scope="module")
def token_pair(guards: Guards) -> Iterator[Pair]:
    guarded = guards.plain
    keys = [guarded.add_token(name) for name in NAMES]
    with ExitStack() as stack:
        both = [WireUser(stack.enter_context(enter(connect(guarded.address), key, guarded.binding))) for key in keys]
        yield Pair(both[0], both[1], stack.enter_context(guarded.client()))


@pytest.fixture(scope="module")
def certificate_pair(guards: Guards) -> Iterator[Pair]:
    guarded = guards.mutual
    with ExitStack() as stack:
        both = [_shown(guards, guarded, stack, name) for name in NAMES]
        yield Pair(both[0], both[1], stack.enter_context(guarded.client()))


def _shown(guards: Guards, guarded: Guarded, stack: ExitStack, name: str) -> WireUser:
    sock = stack.enter_context(secure(connect(guarded.address), guards.ca.client(name)))
    assert read_one(sock)["params"]["user"] == name
    return WireUser(sock)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest) -> Pair:
    found = request.getfixturevalue(f"{request.param}_pair")
    assert isinstance(found, Pair)
    return found


everyone = pytest.mark.parametrize(
    "pair", [pytest.param("unix", marks=needs_root), "token", "certificate"], indirect=True
)


def questions(task_id: str, own: str) -> list[tuple[str, JsonObject]]:
    """Return every way of asking for a task, by one who has the task `own`."""
    asked: list[tuple[str, JsonObject]] = []
    for prefix in (task_id, task_id.upper(), task_id[:-1], task_id[:13]):
        asked += [
            ("task.query", {"id": prefix}),
            ("task.signal", {"id": prefix, "grace_s": 0}),
            ("task.logs", {"id": prefix}),
            ("task.logs", {"id": prefix, "follow": True, "tail": 1}),
            ("task.stdin", {"id": prefix, "offset": 0, "data": ""}),
            ("task.stdin", {"id": prefix, "offset": 7, "data": "eA==", "end": True}),
            ("task.wait", {"ids": [prefix], "timeout_s": 0}),
            ("task.wait", {"ids": [own, prefix], "any": True, "timeout_s": 0}),
            ("task.wait", {"ids": [prefix, own], "timeout_s": 0}),
        ]
    return asked + [(name, {"id": task_id, "for": "task.logs", "ids": [task_id]}) for name in INNER]


def masked(reply: bytes, task_id: str) -> bytes:
    text = reply.decode()
    for prefix in (task_id, task_id[:-1], task_id[:13]):
        text = text.replace(prefix, f"<{len(prefix)} digits>").replace(prefix.upper(), f"<{len(prefix)} digits>")
    return text.encode()


@everyone
def test_a_task_of_another_user_reads_as_one_that_is_not_there(pair: Pair) -> None:
    theirs, ours, absent = (str(uuid.uuid4()) for _ in range(3))
    pair.start("alice", theirs)
    pair.start("bob", ours)
    asked = [(questions(theirs, ours)[n], questions(absent, ours)[n]) for n in range(len(questions(theirs, ours)))]
    frames = [request_frame(1, *one) for two in asked for one in two]
    replies, _took = pair.bob.ask(frames)
    for number, (there, _not_there) in enumerate(asked):
        of_theirs, of_none = replies[2 * number], replies[2 * number + 1]
        assert b'"error"' in of_theirs, there
        assert masked(of_theirs, theirs) == masked(of_none, absent), there
    assert pair.root.query(theirs).exit_code is None
    # The same questions by whom it belongs to are answered, so it is not the questions.
    own_replies, _took = pair.alice.ask([request_frame(1, "task.query", {"id": theirs[:13]})])
    assert b'"result"' in own_replies[0]


@everyone
def test_another_s_tasks_make_no_prefix_ambiguous(pair: Pair) -> None:
    ours = str(uuid.uuid4())
    pair.start("bob", ours)
    pair.start("alice", ours[:-1] + ("0" if ours[-1] != "0" else "1"))
    (by_prefix, by_id), _took = pair.bob.ask([request_frame(1, "task.query", {"id": it}) for it in (ours[:-1], ours)])
    assert by_prefix == by_id


@everyone
def test_lists_and_counts_are_of_one_s_own(pair: Pair) -> None:
    ours, theirs = str(uuid.uuid4()), str(uuid.uuid4())
    count = request_frame(1, "server.info", {})
    (before,), _took = pair.bob.ask([count])
    pair.start("bob", ours)
    pair.start("alice", theirs)
    lists = [request_frame(1, "task.list", {"all": is_all}) for is_all in (False, True)]
    (after, *pages), _took = pair.bob.ask([count, *lists])
    assert json.loads(after)["result"]["live"] == json.loads(before)["result"]["live"] + 1
    for page in pages:
        owners = {task["owner"] for task in json.loads(page)["result"]["tasks"]}
        assert len(owners) == 1
        assert ours.encode() in page
        assert theirs.encode() not in page


@everyone
def test_an_id_of_another_s_is_taken_like_one_s_own(pair: Pair) -> None:
    """Ids are the clients' to choose, so one that is taken must be refused; it is not said by whom."""
    ours, theirs = str(uuid.uuid4()), str(uuid.uuid4())
    pair.start("bob", ours)
    pair.start("alice", theirs)
    again = [request_frame(1, "task.start", {"id": one, "argv": ["/bin/true"]}) for one in (theirs, ours)]
    same = request_frame(1, "task.start", {"id": theirs, "argv": ["/bin/sh", "-c", "exec sleep 600"]})
    (of_theirs, of_ours, of_the_same), _took = pair.bob.ask([*again, same])
    assert masked(of_theirs, theirs) == masked(of_ours, ours)
    assert of_the_same == of_theirs


@everyone
def test_it_takes_no_other_time(pair: Pair) -> None:
    theirs, absent = str(uuid.uuid4()), str(uuid.uuid4())
    pair.start("alice", theirs)
    frames = [request_frame(1, "task.query", {"id": one}) for one in (theirs, absent, theirs[:13], absent[:13])]
    for _try in range(3):
        _replies, took = pair.bob.ask(frames, times=150)
        medians = [statistics.median(times) for times in took]
        if max(medians) < 2 * min(medians):
            return
    pytest.fail(f"medians in seconds: {medians}")


@pytest.mark.parametrize("guarded", ["plain"], indirect=True)
def test_a_viewer_sees_all_and_its_name_owns_nothing(guarded: Guarded) -> None:
    key = guarded.add_token("looker", Role.VIEWER)
    with enter(connect(guarded.address), key, guarded.binding) as sock:
        (found, stopped), _took = WireUser(sock).ask(
            [
                request_frame(1, "task.query", {"id": guarded.task_id}),
                request_frame(2, "task.signal", {"id": guarded.task_id}),
            ]
        )
    assert json.loads(found)["result"]["id"] == guarded.task_id
    assert json.loads(stopped)["error"]["code"] == 5
