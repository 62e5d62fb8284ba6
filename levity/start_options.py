"""The options of a task: all that `start` can say about one. Runs in: client, engine, shim. Owns: nothing.

Never: does I/O. StartOptions is the only list of them. Each field knows how an option is written to the wire (client),
what of the wire is taken (engine), and what it was in specs of older versions. Its option on the command line is in
levity/cli/start.py.
"""

import os

from levity.errors import InvalidRequest
from levity.protocol.text import bytes_to_text, text_to_bytes

__all__ = ["DEFAULT_GRACE_S", "FIELDS", "Field", "Flag", "StartOptions", "check_grace"]

# How long a task has between SIGTERM and SIGKILL if neither its start nor the signal says so.
DEFAULT_GRACE_S = 5.0
# The longest grace period: a week.
GRACE_LIMIT_S = 7 * 24 * 3600

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Generic, TypedDict, TypeVar

    JsonObject = dict[str, Any]
    Text = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    Environment = Mapping[str, Text] | Mapping[bytes, Text]
    Value = TypeVar("Value")

    class _Typed(Generic[Value]):
        """A field whose value has this type."""

    class RunOptions(TypedDict, total=False):
        """The keywords of `Client.run`; its `argv`, `cwd`, `env` and `grace_s` may also stand without a name."""

        merged: bool
        log_cap: int | None
        user: str | None

    class Options(RunOptions, total=False):
        """The keywords of `Client.start`. Input is a matter of its own in `run`."""

        stdin: bool

else:
    # A client and a shim do without typing: loading it takes time and memory.
    class _Typed:
        def __class_getitem__(cls, _value: object) -> type:
            return cls


class Field(_Typed["Value"]):
    """One option of a task, named by its attribute of StartOptions.

    `if_missing` is what a missing key stands for in a request, `older` in a spec that was written before there was this
    option. `identifies`: a second start with the same id and another value asks for another task. `is_stored`: it is a
    key of spec.json.
    """

    name: str
    if_missing: object = None
    older: object = None
    identifies = True
    is_stored = True

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name
        FIELDS[name] = self

    def __get__(self, options: "StartOptions", _owner: type) -> "Value":
        value: Value = options.values[self.name]
        return value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def to_wire(self, given: "Any") -> object:
        """Return what the client sends for what its caller gave; None for nothing. InvalidRequest if it is no value."""
        return given

    def from_wire(self, value: "Any") -> object:
        """Return the value that a request has; InvalidRequest if it is none."""
        raise NotImplementedError

    def is_value(self, value: object) -> bool:
        """Whether a spec can hold this value."""
        raise NotImplementedError


# By name, in the order in which StartOptions lists them.
FIELDS: "dict[str, Field[Any]]" = {}


class Flag(Field[bool]):
    """Yes or no, and no if nothing is said."""

    if_missing = older = False

    def to_wire(self, given: object) -> object:
        return True if given else None

    def from_wire(self, value: object) -> object:
        if not isinstance(value, bool):
            raise InvalidRequest(f"{self.name!r} is neither true nor false")
        return value

    def is_value(self, value: object) -> bool:
        return isinstance(value, bool)


class _Argv(Field["list[str]"]):
    def to_wire(self, given: "Sequence[Text]") -> object:
        if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
            raise InvalidRequest(f"the command is to be a list of words like ['ls', '-l'], not {type(given).__name__}")
        words = [_wire_text(word, f"argument {position}") for position, word in enumerate(given)]
        if not words or not words[0]:
            raise InvalidRequest("the command is empty")
        return words

    def from_wire(self, value: object) -> object:
        if not isinstance(value, list) or not value:
            raise InvalidRequest("the command is missing")
        for word in value:
            _check_text(word, "an argument")
        return value

    def is_value(self, value: object) -> bool:
        return isinstance(value, list) and set(map(type, value)) <= {str}


class _Directory(Field["str | None"]):
    def to_wire(self, given: "Text | None") -> object:
        return None if given is None else _wire_text(given, "the working directory")

    def from_wire(self, value: object) -> object:
        if value is not None:
            _check_text(value, "the working directory")
        return value

    def is_value(self, value: object) -> bool:
        return value is None or isinstance(value, str)


class _Environment(Field["dict[str, str]"]):
    if_missing: object = {}

    def to_wire(self, given: "Environment | None") -> object:
        if not hasattr(given or {}, "items"):
            raise InvalidRequest(f"the environment is to be a dict, not {type(given).__name__}")
        result = {}
        for name, value in (given or {}).items():
            text = _wire_text(name, "the name of an environment variable")
            if not text or "=" in text:
                raise InvalidRequest(f"{text!r} cannot name an environment variable: it is empty or holds '='")
            result[text] = _wire_text(value, f"the environment variable {text!r}")
        return result or None

    def from_wire(self, value: object) -> object:
        if not isinstance(value, dict):
            raise InvalidRequest("the environment is not an object of names and values")
        for name, text in value.items():
            _check_text(name, "an environment name")
            _check_text(text, f"the value of the environment name {name!r}")
            if not name or "=" in name:
                raise InvalidRequest(f"environment name {name!r}: a name is not empty and holds no '='")
        return value or {}

    def is_value(self, value: object) -> bool:
        return isinstance(value, dict) and set(map(type, value.values())) <= {str}


class _Grace(Field[float]):
    identifies = False

    def to_wire(self, given: float | None) -> object:
        return None if given is None else check_grace(given)

    def from_wire(self, value: object) -> object:
        return DEFAULT_GRACE_S if value is None else float(check_grace(value))

    def is_value(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)


class _LogCap(Field[int]):
    """None in a request: as levityd was told."""

    older = 0
    identifies = False

    def to_wire(self, given: int | None) -> object:
        return self.from_wire(given)

    def from_wire(self, value: object) -> object:
        if value is None:
            return None
        from levity.sizes import check_log_cap  # most starts give none

        return check_log_cap(value)

    def is_value(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class _User(Field["str | None"]):
    """Only a request has it: the engine looks it up, and `run_as` in the spec says what it found."""

    identifies = False  # The engine compares `run_as`.
    is_stored = False

    def to_wire(self, given: object) -> object:
        if given is None or (isinstance(given, str) and given and given.isprintable()):
            return given
        raise InvalidRequest(f"{given!r} is no user's name")

    def from_wire(self, value: object) -> object:
        if value is not None and (not isinstance(value, str) or not value or "\0" in value):
            raise InvalidRequest("'user' is not the name of a user")
        return value

    def is_value(self, value: object) -> bool:
        return value is None


class StartOptions:
    """What was asked of a task. Texts are those of the wire (levity/protocol/text.py).

    * `argv`: the command and its arguments; `cwd`: where it runs, None for the home of its user
    * `env`: what is added to its environment
    * `grace_s`: how many seconds it has between SIGTERM and SIGKILL
    * `stdin`: its standard input is what `write_stdin` gives it, else it is empty
    * `merged`: both its streams go through one pipe: their order is exact, and all of it is its stdout
    * `log_cap`: how many bytes of its output are kept, 0 for all of it, None for what levityd was told
    * `user`: the account on the host that it runs as, if levityd runs as root. None is the caller's own account, and
      levityd's for a caller that has none there
    """

    argv = _Argv()
    cwd = _Directory()
    env = _Environment()
    grace_s = _Grace()
    stdin = Flag()
    merged = Flag()
    log_cap = _LogCap()
    user = _User()

    __slots__ = ("values",)

    def __init__(self, values: "JsonObject") -> None:
        """Take a value for each field; `from_request` and `from_json` have checked them."""
        self.values = values

    def __repr__(self) -> str:
        return f"<StartOptions {self.values['argv']}>"

    @classmethod
    def from_request(cls, params: "JsonObject", **defaults: object) -> "StartOptions":
        """Check what a request asks for; InvalidRequest says what is wrong. `defaults` are this levityd's."""
        values = {}
        for name, field in FIELDS.items():
            value = field.from_wire(params.get(name, field.if_missing))
            values[name] = defaults.get(name) if value is None else value
        return cls(values)

    @classmethod
    def from_json(cls, spec: "JsonObject") -> "StartOptions | None":
        """Read the options in a spec, also one of an older version; None if one is missing or no value."""
        values = {}
        for name, field in FIELDS.items():
            value = values[name] = spec.get(name, field.older) if field.is_stored else None
            if not field.is_value(value):
                return None
        return cls(values)

    def to_json(self) -> "JsonObject":
        """Return the keys of a spec."""
        return {name: self.values[name] for name, field in FIELDS.items() if field.is_stored}

    def asks_for_the_same(self, other: "StartOptions") -> bool:
        """Whether a second start that says `other` may be the first one, sent again."""
        return all(self.values[name] == other.values[name] for name, field in FIELDS.items() if field.identifies)


def check_grace(grace_s: object) -> float:
    """Return a grace period as it is if it is a number of seconds, InvalidRequest if not."""
    if isinstance(grace_s, int | float) and not isinstance(grace_s, bool) and 0 <= grace_s <= GRACE_LIMIT_S:
        return grace_s
    raise InvalidRequest(f"the grace period makes no sense; give a number of seconds from 0 to {GRACE_LIMIT_S}")


def _wire_text(value: "Any", what: str) -> str:
    try:
        raw = os.fsencode(value)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{what} is neither text nor bytes: {error}") from error
    if b"\0" in raw:
        raise InvalidRequest(f"{what} holds a NUL, which no command can be given")
    return bytes_to_text(raw)


def _check_text(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} is not a string")
    if b"\0" in text_to_bytes(value):
        raise InvalidRequest(f"{what} holds a NUL byte, which no program can be given")
