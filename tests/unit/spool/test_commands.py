"""The commands of an engine to a shim: each version's form, and that nothing else is one."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.spool.commands import COMMANDS_VERSION, GRACE_LIMIT_S, LINE_LIMIT, SIGNAL, STDIN, CommandDecoder
from supervisor.spool.commands import encode_command as encode

GRACES = st.floats(0, GRACE_LIMIT_S) | st.integers(0, int(GRACE_LIMIT_S))

# What the engine of commit e66b08c writes.
OLD_LINES: list[tuple[bytes, dict[str, Any]]] = [
    (b"{}\n", {"do": SIGNAL}),
    (b'{"grace_s": 2.5}\n', {"do": SIGNAL, "grace_s": 2.5}),
    (b'{"grace_s": 0}\n', {"do": SIGNAL, "grace_s": 0}),
    (b'{"stdin": true}\n', {"do": STDIN}),
]

# What no engine has written so far; the shim of commit e66b08c took every object for its signal.
FOREIGN_LINES = [
    b'{"resize":[80,24]}',
    b'{"do": "resize", "size": [80, 24]}',
    b'{"do": "SIGNAL"}',
    b'{"do": null}',
    b'{"do": ["signal"]}',
    b'{"do": "signal", "grace_s": "5"}',
    b'{"do": "signal", "grace_s": null}',
    b'{"do": "signal", "grace_s": true}',
    b'{"do": "signal", "grace_s": -1}',
    b'{"do": "signal", "grace_s": NaN}',
    b'{"do": "signal", "grace_s": 1e999}',
    b'{"do": "signal", "grace_s": 604801}',
    b'{"grace_s": "5"}',
    b'{"grace_s": 5, "more": 1}',
    b'{"stdin": false}',
    b'{"stdin": true, "more": 1}',
    b'{"signal": 9}',
    b"[]",
    b"7",
    b'"signal"',
    b"signal",
    b"{",
    b'{"do": "signal"',
    b"\xff\x00",
    b"[" * 3000,
    b"1" * 4000,
    b"",
]


@given(GRACES)
def test_a_command_comes_as_it_was_given(grace_s: float) -> None:
    decoder = CommandDecoder()
    for version in (0, COMMANDS_VERSION, COMMANDS_VERSION + 1):
        found = [
            decoder.feed(line)
            for line in (encode(version, SIGNAL, grace_s=grace_s), encode(version, SIGNAL), encode(version, STDIN))
            if line is not None
        ]
        assert found == [[{"do": SIGNAL, "grace_s": grace_s}], [{"do": SIGNAL}], [{"do": STDIN}]]


def test_a_shim_that_names_no_version_is_told_in_the_form_that_it_knows() -> None:
    lines = [encode(0, SIGNAL, grace_s=2.5), encode(0, SIGNAL), encode(0, STDIN)]
    assert [json.loads(line or b"") for line in lines] == [{"grace_s": 2.5}, {}, {"stdin": True}]


@pytest.mark.parametrize(("line", "command"), OLD_LINES)
def test_an_older_engine_is_understood(line: bytes, command: dict[str, Any]) -> None:
    assert CommandDecoder().feed(line) == [command]


@pytest.mark.parametrize("line", FOREIGN_LINES)
def test_a_foreign_line_is_no_command_and_hides_none(line: bytes) -> None:
    decoder = CommandDecoder()
    assert decoder.feed(line + b"\n") == []
    # Half a line, and behind it a whole command.
    assert decoder.feed(line) == []
    command = encode(COMMANDS_VERSION, SIGNAL)
    assert command is not None
    assert decoder.feed(command) == [{"do": SIGNAL}]


def test_a_field_of_a_newer_engine_is_ignored() -> None:
    assert CommandDecoder().feed(b'{"do": "signal", "grace_s": 1, "why": "quota"}\n') == [{"do": SIGNAL, "grace_s": 1}]


def test_a_line_over_the_limit_is_dropped_to_its_end() -> None:
    decoder = CommandDecoder()
    assert decoder.feed(b"x" * (LINE_LIMIT + 1)) == []
    assert decoder.feed(b'{"do": "signal"}') == []
    assert decoder.feed(b' {}\n{"do": "stdin"}\n') == [{"do": STDIN}]


@given(st.lists(st.sampled_from([line for line, _ in OLD_LINES] + [one + b"\n" for one in FOREIGN_LINES])), st.data())
def test_commands_may_come_in_any_pieces(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(lines)
    whole = CommandDecoder().feed(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder, found = CommandDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == whole


@given(st.binary(max_size=200))
def test_noise_is_answered_by_nothing_that_is_out_of_range(noise: bytes) -> None:
    for command in CommandDecoder().feed(noise + b"\n"):
        assert command["do"] in {SIGNAL, STDIN}
        assert math.isfinite(command.get("grace_s", 0))
