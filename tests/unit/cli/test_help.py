"""The help pages; pages, README and completions have what the code has. Runs in: pytest."""

import ast
import pkgutil
import re
import signal
from collections.abc import Iterator
from importlib import import_module

import pytest

import levity
from levity.cli.exit_codes import INTERRUPTED, OWN_FAILURE, SIGNALLED
from levity.cli.help import PAGES
from levity.cli.main import COMMANDS, main
from levity.cli.options import GLOBAL, Option
from levity.errors import LevityError
from tests.support.paths import ROOT

Captured = pytest.CaptureFixture[bytes]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPLETIONS = ["levity.bash", "_levity", "levity.fish"]


@pytest.mark.parametrize("words", ["--help", "-h", "help", "--help query", "-a x --help"])
def test_the_overview(words: str, capfdbinary: Captured) -> None:
    assert main(words.split()) == 0
    assert capfdbinary.readouterr() == (PAGES[""].encode(), b"")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_page(command: str, capfdbinary: Captured) -> None:
    for words in (["help", command], [command, "--help"], [command, "-h"]):
        assert main(words) == 0
        assert capfdbinary.readouterr() == (PAGES[command].encode(), b"")


def test_help_on_help(capfdbinary: Captured) -> None:
    assert main(["help", "help"]) == 0
    assert capfdbinary.readouterr().out == PAGES["help"].encode()
    assert main(["help", "--help"]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_names_every_option_and_an_example(command: str) -> None:
    module = __import__(f"levity.cli.{command}", fromlist=["OPTIONS"])
    page = PAGES[command]
    assert page.startswith(f"Usage: levity {command}")
    assert "\nExamples:\n" in page
    for option in module.OPTIONS:
        assert f"--{option.name}" in page
        assert not option.short or f"-{option.short}, --{option.name}" in page
        assert f"--{option.name} {option.takes}".rstrip() in page


def test_pages_fit_a_terminal_and_the_overview_has_it_all() -> None:
    for page in PAGES.values():
        assert all(len(line) <= 120 for line in page.splitlines())
        assert page.endswith("\n")
    for command in COMMANDS:
        assert f"\n  {command} " in PAGES[""]


def options_of(command: str) -> tuple[Option, ...]:
    options: tuple[Option, ...] = import_module(f"levity.cli.{command}").OPTIONS
    return options


@pytest.mark.parametrize("file", COMPLETIONS)
def test_a_completion_knows_every_command_and_every_option(file: str) -> None:
    text = (ROOT / "contrib" / "completions" / file).read_text(encoding="utf-8")
    for command in [*COMMANDS, "help"]:
        assert re.search(rf"\b{command}\b", text), command
    for option in {option.name for command in COMMANDS for option in options_of(command)} | {
        one.name for one in GLOBAL
    }:
        assert re.search(rf"(--|-l ){option}\b", text), option


def every_code() -> set[int]:
    """Return all exit codes of levity's own: of its errors, of the signals that it handles, and 0."""
    for module in pkgutil.walk_packages(levity.__path__, "levity."):
        if module.name != "levity.__main__":
            import_module(module.name)
    by_signal = {SIGNALLED + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    assert INTERRUPTED in by_signal
    return {0, OWN_FAILURE, *by_signal, *(cls.exit_status for cls in errors())}


def errors(cls: type[LevityError] = LevityError) -> Iterator[type[LevityError]]:
    """Yield levity's errors, wherever they are."""
    if cls.__module__.startswith("levity."):
        yield cls
    for derived in cls.__subclasses__():
        yield from errors(derived)


def numbers(text: str) -> set[int]:
    return set(map(int, re.findall(r"\d+", text)))


def test_the_readme_and_the_overview_have_every_exit_code() -> None:
    table = README.partition("\n| `levity` | |\n")[2].partition("\n\n")[0]
    # The first column, and the codes in brackets in the second.
    cells = re.findall(r"^\| ([\d, ]+) \||\(([\d, ]+): ", table, re.MULTILINE)
    assert numbers(" ".join(map(" ".join, cells))) == every_code()
    overview = PAGES[""].partition("\nExit codes:\n")[2].partition("\n`run`")[0]
    assert numbers(" ".join(re.findall(r"^  ([\d, ]+) ", overview, re.MULTILINE))) == every_code()


@pytest.mark.parametrize("command", ["start", "run", "wait", "logs"])
def test_a_page_has_no_other_exit_codes(command: str) -> None:
    codes = PAGES[command].partition("\nExit codes:")[2].partition("\n\n")[0].replace("128+N", "")
    assert numbers(codes)
    assert numbers(codes) <= every_code()


def test_the_readme_and_the_overview_have_every_variable() -> None:
    read = set()
    for path in (ROOT / "levity").rglob("*.py"):
        texts = (node.value for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Constant))
        read |= {text for text in texts if isinstance(text, str) and re.fullmatch("LEVITY_[A-Z_]+", text)}
    table = README.partition("\n| variable | for `levity` |\n")[2].partition("\n\n")[0]
    assert set(re.findall("LEVITY_[A-Z_]+", table)) == read
    overview = PAGES[""].partition("\nEnvironment:\n")[2].partition("\n\n")[0]
    assert set(re.findall("LEVITY_[A-Z_]+", overview)) == read
