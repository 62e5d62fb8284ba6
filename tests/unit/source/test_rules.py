"""What the source itself must look like: what is never used, how long a piece may get."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.source import MODULES, name_of, nodes_of, parsed

MODULE_LINES_LIMIT = 400
FUNCTION_LINES_LIMIT = 60

UNPICKLERS = {"_pickle", "cloudpickle", "dill", "marshal", "pickle", "shelve"}

every_file = pytest.mark.parametrize("path", MODULES.values(), ids=name_of)


def everywhere(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node of a file with its place."""
    name = name_of(path)
    for node in nodes_of(path):
        yield f"{name}:{getattr(node, 'lineno', 0)}", node


def imports(path: Path) -> set[str]:
    """Return the full name of everything that a file imports."""
    names: set[str] = set()
    for _place, node in everywhere(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@every_file
def test_nothing_is_unpickled(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & UNPICKLERS
    for place, node in everywhere(path):
        # A multiprocessing Connection unpickles in recv(), which takes no argument; a socket's recv() needs one.
        is_recv = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "recv"
        assert not (is_recv and isinstance(node, ast.Call) and not node.args), f"{place}: recv() unpickles"


def literal(node: ast.AST) -> bytes:
    """Return what a text or bytes literal holds; nothing for another node."""
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, bytes) else value.encode(errors="replace") if isinstance(value, str) else b""


@every_file
def test_no_socket_is_in_the_abstract_namespace(path: Path) -> None:
    """Any user may connect to those (CVE-2022-42919), and their names begin with a NUL."""
    for place, node in everywhere(path):
        if isinstance(node, ast.JoinedStr) and node.values:
            assert not literal(node.values[0]).startswith(b"\0"), place
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            assert not literal(node.left).startswith(b"\0"), place
        # Nothing but NULs is padding, or what is looked for.
        text = literal(node)
        assert not (text.startswith(b"\0") and text.strip(b"\0")), place


@every_file
def test_the_operating_system_is_asked_for_in_hostos_only(path: Path) -> None:
    if path.is_relative_to(ROOT / "supervisor" / "hostos"):
        return
    assert not imports(path) & {"platform", "sys.platform", "os.name", "os.uname"}
    for place, node in everywhere(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("sys", "platform"), ("os", "name"), ("os", "uname")}, place


@every_file
def test_is_short_and_says_what_it_is(path: Path) -> None:
    lines = len(path.read_bytes().splitlines())
    assert lines <= MODULE_LINES_LIMIT, f"{name_of(path)} has {lines} lines"
    # Only an `__init__.py` may go without: supervisor's is shared with another distribution.
    assert ast.get_docstring(parsed(path)) or path.name == "__init__.py", f"{name_of(path)} has no docstring"
    for place, node in everywhere(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_LIMIT, f"{place}: {node.name} has {length} lines"
