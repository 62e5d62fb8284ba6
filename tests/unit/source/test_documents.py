"""What documents and help pages repeat is as the code has it: each table has one source, and no name is stale."""

import ast
import contextlib
import os
import re
from pathlib import Path

import pytest

from levity import errors
from levity.cli.help import PAGES
from levity.errors import LevityError
from levity.states import ENDS, MOVES, State
from supervisor.arbiter import options, startup_error
from supervisor.arbiter.access import TlsFiles, access_for
from supervisor.arbiter.commands.dispatch import run_command
from supervisor.engine.operations import dispatch
from supervisor.frontend.admission import limits
from supervisor.security.principal import Principal
from supervisor.security.roles import Right, Role
from supervisor.settings import Keeping, Known
from tests.support.attack import OPERATIONS
from tests.support.certificates import make_ca
from tests.support.documents import (
    DOCUMENTS,
    cell_words,
    page,
    quoted,
    section,
    source_files,
    tables,
    tree_of_files,
)
from tests.support.paths import ROOT
from tests.support.source import nodes_of, parsed

README, ARCHITECTURE = page("README.md"), page("docs/architecture.md")
PROTOCOL, SECURITY = page("docs/protocol.md"), page("docs/security.md")
STATES = [str(state) for state in State]


def first_table(text: str, title: str) -> list[list[str]]:
    """Return the rows of the first table of a section, without its heading."""
    return tables(section(text, title))[0][1:]


def levityd_help() -> str:
    return options.parser().format_help()


# States, and the moves between them: levity/states.py


def test_readme_and_help_tell_the_states_in_their_order() -> None:
    assert [row[0] for row in first_table(README, "Use it")] == STATES
    listed = re.search(r"^States:\n((?:  .*\n)+)", PAGES["query"], re.MULTILINE)
    assert listed
    assert [line.split()[0] for line in listed[1].splitlines()] == STATES


def test_the_protocol_tells_the_states_and_their_order() -> None:
    (about,) = [row[2] for row in first_table(PROTOCOL, "A record") if row[0] == "`state`"]
    live, ends = about.split("one of the ends")
    assert quoted(live) == [state for state in STATES if state not in ENDS]
    assert quoted(ends) == [state for state in STATES if state in ENDS]
    said = re.search(r"only ever moves down this list: (.*?)\.", section(PROTOCOL, "A record"), re.DOTALL)
    assert said
    steps = [{State(word)} if word in STATES else set(ENDS) for word in cell_words(said[1].replace("an end", "END"))]
    for place, step in enumerate(steps):
        later = set[State]().union(*steps[place + 1 :])
        assert all(MOVES[state] == later for state in step), step


def test_the_architecture_tells_every_legal_move() -> None:
    """A row is one step; what is legal is any number of steps."""
    moves = dict.fromkeys(State, frozenset[State]())
    for sources, target, _when in first_table(ARCHITECTURE, "States"):
        named = [state for state in State if state not in ENDS] if sources == "any but an end" else cell_words(sources)
        for source in named:
            moves[State(source)] |= {State(target)}
    for _ in State:
        moves = {state: targets.union(*(moves[one] for one in targets)) for state, targets in moves.items()}
    assert moves == MOVES


# Exit codes: of levity in tests/unit/cli; of levityd supervisor/arbiter/startup_error.py


def levityd_codes() -> set[int]:
    named = {value for name, value in vars(startup_error).items() if name.isupper() and isinstance(value, int)}
    return named | {0, errors.InvalidRequest.exit_status}


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\b\d+\b", text)}


def listed_codes(help_page: str) -> set[int]:
    """Return the codes in the list of a help page; the ones in brackets, too, that end a command from outside."""
    found = re.search(r"^Exit codes:\n((?:  .*\n)+)", help_page, re.MULTILINE)
    assert found
    heads = re.findall(r"^  ((?:\d+(?:, )?)+)  ", found[1], re.MULTILINE)
    return numbers(" ".join([*heads, *re.findall(r"\((\d+, \d+): by", found[1])]))


@pytest.mark.parametrize(("command", "never"), [("run", {0, 1, 124}), ("wait", {0, 1, 126, 127, 129, 141, 143})])
def test_the_page_of_a_command_that_exits_with_a_tasks_code_tells_the_others(command: str, never: set[int]) -> None:
    assert listed_codes(PAGES[command]) == listed_codes(PAGES[""]) - never


def test_readme_and_help_tell_every_exit_code_of_levityd() -> None:
    rows = tables(section(README, "Exit codes"))[1][1:]
    assert {int(row[0]) for row in rows} == levityd_codes()
    told = re.search(r"^exit status: (.*)$", levityd_help(), re.MULTILINE)
    assert told
    assert {int(one.split()[0]) for one in told[1].split("; ")} == levityd_codes()


# Roles and rights: supervisor/security/roles.py


def own_rights(role: Role) -> set[Right]:
    return {right for right in Right if Principal("me", role).may_with(right, "me")}


def rights_to_others(role: Role) -> set[Right]:
    return {right for right in Right if Principal("me", role).may_with(right, "another")}


def check_words_on_roles(told: dict[str, str]) -> None:
    """Check what is said in a few words about each role."""
    assert list(told) == [str(role) for role in Role]
    for role in Role:
        words = set(re.findall(r"\w+", told[role]))
        assert ("all" in words) == bool(rights_to_others(role)), (role, told[role])
        assert bool(words & {"start", "everything", "has"}) == (Right.START in own_rights(role)), (role, told[role])
        assert bool(words & {"everything", "has"} and "all" in words) == (Right.ACT in rights_to_others(role)), role


def test_readme_and_the_protocol_tell_what_each_role_may() -> None:
    (rows,) = [table[1:] for table in tables(section(README, "Who may use it")) if table[0][0] == "role"]
    check_words_on_roles({row[0]: row[1] for row in rows})
    check_words_on_roles({row[0].strip("`"): row[1] for row in first_table(PROTOCOL, "Roles")})


def test_the_security_page_tells_what_each_role_may_with_which_tasks() -> None:
    rows = first_table(SECURITY, "Users and roles")
    assert [row[0] for row in rows] == [str(role) for role in Role]
    begins = {frozenset[Right](): "do not exist", frozenset({Right.SEE}): "sees them", frozenset(Right): "everything"}
    for row in rows:
        assert row[1].startswith(begins[frozenset(own_rights(Role(row[0])))]), row
        assert row[2].startswith(begins[frozenset(rights_to_others(Role(row[0])))]), row


def test_the_help_tells_what_each_role_may(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["token", "add", "--help"], ["certs", "user", "--help"], ["certs", "role", "--help"]):
        with pytest.raises(SystemExit):
            run_command(command)
        text = " ".join(capsys.readouterr().out.split())
        told = re.search(r"(viewer: .*?); (user: .*?); (admin: [\w ]*\w)", text)
        assert told, text
        check_words_on_roles(dict(one.split(": ") for one in told.groups()))
    named = re.search(r"user and role \((.*?)\)", PAGES["info"])
    assert named
    assert re.split(", | or ", named[1]) == [str(role) for role in Role]


def test_the_protocol_describes_every_operation() -> None:
    sections = set(re.findall(r"^### ((?:task|server)\.\w+)$", PROTOCOL, re.MULTILINE))
    assert sections == set(OPERATIONS)
    assert set(dispatch._TABLE) <= sections


# Who gets in: supervisor/arbiter/access.py


@pytest.fixture(scope="module")
def ways_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Known, bool]]:
    """How a client is known at each kind of address, and whether inside TLS: as levityd decides it."""
    place = tmp_path_factory.mktemp("ways-in")
    authority = make_ca(place)
    server, crl = authority.server(), authority.crl()
    files = TlsFiles(str(server.path), str(server.key_path), str(authority.path), str(crl))
    with contextlib.chdir(place):  # levityd makes its own certificate there.
        asked = {
            "unix socket": access_for(None, TlsFiles()),
            "127.0.0.1:4321": access_for("127.0.0.1", TlsFiles()),
            "0.0.0.0:4321": access_for("0.0.0.0", TlsFiles()),
            "--client-ca": access_for("0.0.0.0", files),
        }
    return {way: (access.known, access.tls is not None) for way, access in asked.items()}


def check_who_gets_in(told: dict[str, str], ways_in: dict[str, tuple[Known, bool]]) -> None:
    """Check who gets in by each way, in words; a row that names no address is about a unix socket."""
    seen = set[str]()
    for where, who in told.items():
        way = next((name for name in reversed(ways_in) if name in where), "unix socket")
        if way == "unix socket" and "any other address" in where:
            way = "0.0.0.0:4321"
        seen.add(way)
        known, has_tls = ways_in[way]
        assert ("has a token" in who) == (known is Known.TOKEN), (where, who)
        assert ("has a certificate" in who) == (known is Known.CERTIFICATE), (where, who)
        assert ("TLS" in who) == (has_tls and known is Known.TOKEN), (where, who)
    assert seen == set(ways_in)


def test_readme_and_the_security_page_tell_who_gets_in(ways_in: dict[str, tuple[Known, bool]]) -> None:
    rows = first_table(README, "Who may use it")
    check_who_gets_in({row[0]: row[1] for row in rows}, ways_in)
    rows = first_table(SECURITY, "In one screen")
    check_who_gets_in({row[1]: row[3] for row in rows}, ways_in)


def test_levityds_help_tells_who_gets_in(ways_in: dict[str, tuple[Known, bool]]) -> None:
    listed = re.search(r"^who gets in:\n((?:  .*\n)+)", levityd_help(), re.MULTILINE)
    assert listed
    # A line that goes on is indented further.
    lines = re.sub(r"\n {5,}", " ", listed[1]).strip("\n").splitlines()
    told: dict[str, str] = {}
    for line in lines:
        where, who = re.split(r"  +", line.strip(), maxsplit=1)
        told[where] = who.replace("the same", list(told.values())[-1]) if who.startswith("the same") else who
    check_who_gets_in(told, ways_in)


def test_the_protocol_tells_how_a_client_is_known(ways_in: dict[str, tuple[Known, bool]]) -> None:
    rows = first_table(PROTOCOL, "Who is who")
    told = {(Known(quoted(row[0])[0]), "TLS" in row[0].replace("no TLS", "")) for row in rows}
    assert told == set(ways_in.values())
    (about,) = [row[1] for row in tables(section(PROTOCOL, "Greeting"))[0] if row[0] == "`auth`"]
    assert set(quoted(about)) == {str(known) for known in Known}


# Error codes: levity/errors.py


def wire_codes() -> set[int]:
    """Return the codes of what the package of errors has: what is made by the client alone has no code of its own."""
    found = [getattr(errors, name) for name in errors.__all__]
    return {cls.code for cls in found if isinstance(cls, type) and issubclass(cls, LevityError)}


def test_the_protocol_lists_every_error_that_has_a_code_and_no_other() -> None:
    assert [int(row[0]) for row in first_table(PROTOCOL, "Errors")] == sorted(
        wire_codes(), key=lambda code: ([-32700, -32601, -32602, -32603, -32000].index(code) if code < 0 else 5, code)
    )


def test_the_protocol_speaks_of_no_error_that_is_not_listed() -> None:
    spoken = re.findall(r"(?<![\w)])\((-?\d+)\)|(?:the )?errors? (-?\d+)", PROTOCOL.replace("\n", " "))
    codes = {int(one or other) for one, other in spoken}
    assert codes
    assert codes <= wire_codes()


# The limits of supervisor/settings.py, and of supervisor/frontend/admission/limits.py


def test_documents_and_help_tell_what_is_kept() -> None:
    kept = Keeping()
    told = {row[0]: row[1] for row in first_table(ARCHITECTURE, "What is kept")}
    assert told["`levityd --log-cap`, `start --log-cap`"] == f"{kept.log_cap // 2**30} GiB"
    assert told["`--log-quota`"] == f"{kept.log_quota // 2**30} GiB"
    assert f"Of each task's output {kept.log_cap // 2**30} GiB is kept" in " ".join(README.split())
    assert f"{kept.log_quota // 2**30} GiB are kept (`levityd --log-quota`)" in " ".join(README.split())
    defaults = re.findall(r"\(default: (\d+G?)\)", " ".join(levityd_help().split()))
    assert defaults == [f"{kept.log_cap // 2**30}G", f"{kept.log_quota // 2**30}G", f"{kept.min_age_s:g}"]


def test_documents_tell_how_many_connections_get_in() -> None:
    named = {value for name, value in vars(limits).items() if name.isupper() and isinstance(value, int | float)}
    told = {row[0]: row[1] for row in first_table(SECURITY, "Limits for unauthenticated connections")}
    unknown, known = told["connections that are not known yet"], told["connections that are known"]
    failed = told["failed authentications from one address"]
    counts = [int(re.findall(r"\d+", cell)[0]) for cell in (unknown, known, failed)]
    a_user = int(re.findall(r"\d+", known)[1])
    longest_s = int(re.findall(r"(\d+) s\.", failed)[0])
    assert {*counts, a_user, longest_s} <= named
    rows = {row[0]: row[1] for row in first_table(PROTOCOL, "Limits")}
    assert rows["connections of clients that are not known yet"] == str(counts[0])
    assert rows["connections at a time"] == f"{counts[0] + counts[1]}; of a user that is no admin {a_user}"
    assert rows["authentications that fail, from one address off the host"] == f"{counts[2]} a minute"


# The files of a state directory: each name stands once in supervisor/; tests/system looks at a real one.


def literals() -> set[str]:
    """Return every text in the code that is no docstring."""
    found = set[str]()
    for path in source_files("supervisor"):
        docs = {ast.get_docstring(parsed(path), clean=False)}
        texts = (node.value for node in nodes_of(path) if isinstance(node, ast.Constant))
        found |= {text for text in texts if isinstance(text, str) and "\n" not in text and text not in docs}
    return found


def test_the_architecture_tells_of_no_file_that_the_code_does_not_name() -> None:
    known = literals()
    for name in tree_of_files(section(ARCHITECTURE, "Files")):
        pieces = [piece for piece in re.split(r"<\w+>|NAME|ID|/|\.log$|\.lock$|(?<=\.db)\.", name) if piece.strip(". ")]
        for piece in pieces:
            assert any(text.strip(".").startswith(piece.strip(".")) for text in known), (
                f"{name}: {piece!r} is not in the code"
            )


def test_readme_and_the_security_page_name_files_that_the_architecture_names() -> None:
    known = tree_of_files(section(ARCHITECTURE, "Files"))
    plain = {re.sub(r"<\w+>|\d{16}", "N", name).rstrip("/") for name in known}
    told = [name.rstrip("/") for name in tree_of_files(section(README, "Where things are"))]
    told += [name.rstrip("/") for row in first_table(SECURITY, "The state directory") for name in quoted(row[0])]
    assert len(told) > 15
    assert {re.sub(r"\d{16}", "N", name) for name in told} <= plain


# Names of files, decisions and links

_PATH = re.compile(r"(?:supervisor|levity|tests|contrib|docs)(?:/[\w.-]+)+/?")
_PLACEHOLDER = re.compile(r"\b(?:NAME|ID)\b")


def exists(path: str) -> bool:
    return (ROOT / path).exists() or (ROOT / f"{path}.py").exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: os.path.relpath(path, ROOT))
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    for text in quoted(document.read_text(encoding="utf-8")):
        if _PATH.fullmatch(text):
            assert _PLACEHOLDER.search(text) or exists(text), f"{document.name}: {text} is not there"
        assert not re.fullmatch(r"\w+\.py", text), f"{document.name}: {text} is named without its place"


def test_every_file_that_the_source_names_exists() -> None:
    for source in source_files("supervisor", "levity", "tests", "contrib"):
        for path in re.findall(
            r"(?<![\w/.])(?:supervisor|levity|tests|contrib|docs)/[\w/]+\.(?:py|md)\b", source.read_text()
        ):
            assert exists(path), f"{source.relative_to(ROOT)}: {path} is not there"


def test_every_decision_is_in_the_index() -> None:
    pages = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("0*.md"))
    index = page("docs/decisions/README.md")
    assert re.findall(r"^\* \[\d+\]\((0\d+-[\w-]+\.md)\): \S", index, re.MULTILINE) == pages
    for name in pages:
        assert re.match(rf"# {int(name[:4])}\. \S", page(f"docs/decisions/{name}")), name


def test_links_to_a_section_lead_to_one() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
            other = text if not target else (document.parent / target).read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.*)$", other, re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor


def test_no_document_has_two_sections_of_one_name() -> None:
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert len(titles) == len(set(titles)), f"{document.name}: {titles}"
