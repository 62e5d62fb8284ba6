"""Options: parse the words of a command line by a table of its options. Runs in: client. Owns: nothing."""

from getopt import GetoptError, getopt, gnu_getopt

from levity.errors import LevityError

__all__ = ["GLOBAL", "HELP", "Option", "Parsed", "UsageError", "parse"]


class UsageError(LevityError):
    """levity does not understand the command line."""

    exit_status = 2

    def __init__(self, command: str, message: str) -> None:
        page = "levity --help" if command == "levity" else f"levity help {command}"
        super().__init__(f"{message}; see '{page}'")


class Option:
    """An option: `--name`, `-short` if it has one, and the name of its value ("" for none)."""

    __slots__ = ("name", "short", "takes")

    def __init__(self, name: str, short: str = "", takes: str = "") -> None:
        self.name = name
        self.short = short
        self.takes = takes

    def __repr__(self) -> str:
        return f"<Option --{self.name} {self.takes}>"


HELP = Option("help", "h")
GLOBAL = (
    Option("address", "a", "ADDRESS"),
    Option("timeout", "t", "SECONDS"),
    Option("tls"),
    Option("ca", "", "FILE"),
    Option("cert", "c", "FILE"),
    Option("key", "k", "FILE"),
    HELP,
    Option("version"),
)


class Parsed:
    """The given options, and the `words` after or between them."""

    __slots__ = ("_command", "_given", "words")

    def __init__(self, command: str, given: dict[str, list[str]], words: list[str]) -> None:
        self._command = command
        self._given = given
        self.words = words

    def __repr__(self) -> str:
        return f"<Parsed {self._command} {self._given} {self.words}>"

    def has(self, name: str) -> bool:
        """Whether the option was given."""
        return name in self._given

    def every(self, name: str) -> list[str]:
        """Return all values that the option was given."""
        return self._given.get(name, [])

    def last(self, name: str) -> str | None:
        """Return the last value that the option was given."""
        values = self._given.get(name)
        return values[-1] if values else None

    def seconds(self, name: str) -> float | None:
        """Return an option's value in seconds; UsageError if it is no number."""
        text = self.last(name)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            raise self.usage_error(f"--{name} takes a number of seconds, not {text!r}") from None

    def only_word(self, what: str) -> str:
        """Return the one word that the command takes; UsageError for another number of words."""
        if len(self.words) != 1:
            given = "none was" if not self.words else f"{len(self.words)} words were"
            raise self.usage_error(f"`levity {self._command}` takes one {what}, {given} given")
        return self.words[0]

    def no_words(self) -> None:
        """Check that no words were given."""
        if self.words:
            raise self.usage_error(f"`levity {self._command}` takes no {self.words[0]!r}")

    def usage_error(self, message: str) -> UsageError:
        """Return an error that names this command's help page."""
        return UsageError(self._command, message)


def parse(command: str, table: tuple[Option, ...], words: list[str], anywhere: bool = False) -> Parsed:
    """Return `words` parsed; options end at the first other word unless they may stand `anywhere`."""
    short = "".join(option.short + (":" if option.takes else "") for option in table if option.short)
    long = [option.name + ("=" if option.takes else "") for option in table]
    try:
        pairs, rest = (gnu_getopt if anywhere else getopt)(words, short, long)
    except GetoptError as error:
        raise UsageError(command, error.msg) from None
    names = {f"-{option.short}": option.name for option in table}
    given: dict[str, list[str]] = {}
    for flag, value in pairs:
        given.setdefault(names.get(flag, flag[2:]), []).append(value)
    return Parsed(command, given, rest)
