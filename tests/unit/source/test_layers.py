"""What the source itself must look like: who may import what, what is never used, how long a piece may get."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import ROOT

MODULE_LINES_LIMIT = 400
FUNCTION_LINES_LIMIT = 60

# PyPI's supervisor 4.3 installs these modules into the same package.
SUPERVISORD_MODULES = (
    "childutils compat confecho datatypes dispatchers events http http_client loggers medusa options pidproxy poller "
    "process rpcinterface scripts skel socket_manager states supervisorctl supervisord templating tests ui version web "
    "xmlrpc"
)

# Heavy, or different from one system to the next: each is wrapped by one module that says why.
IMPORTED_IN_ONE_PLACE = ["cryptography", "ctypes", "psutil", "sqlite3", "ssl"]

UNPICKLERS = {"_pickle", "cloudpickle", "dill", "marshal", "pickle", "shelve"}

# What each part of supervisor/ may import, beside itself, levity and the standard library. A shim outlives the others
# and must stay lean; front-end and engine talk through a pipe and know nothing of each other's insides.
LAYERS: dict[str, set[str]] = {
    "hostos": set(),
    "spool": {"hostos"},
    "shim": {"hostos", "spool"},
    "log": set(),
    "settings": set(),
    "security": {"hostos", "log"},
    "ipc": {"hostos", "settings", "spool"},
    "engine": {"hostos", "spool", "shim", "log", "settings", "ipc", "security"},
    "frontend": {"hostos", "spool", "log", "settings", "ipc"},
}


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no source in {package}"
    return found


ALL = [*files("levity"), *files("supervisor")]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of everything that a module imports, at its top or later."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def everywhere(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node of a module with its place."""
    for node in ast.walk(tree(path)):
        yield f"{name_of(path)}:{getattr(node, 'lineno', 0)}", node


def test_levity_imports_the_standard_library_and_itself_only() -> None:
    for path in files("levity"):
        # `_sha2` is in the standard library from Python 3.12 on.
        strangers = roots(path) - sys.stdlib_module_names - {"levity", "_sha2"}
        assert not strangers, f"{name_of(path)} imports {strangers}"


def test_supervisor_imports_nothing_but_levity_psutil_and_the_tls_extra() -> None:
    for path in files("supervisor"):
        strangers = roots(path) - sys.stdlib_module_names - {"levity", "supervisor", "psutil", "cryptography"}
        assert not strangers, f"{name_of(path)} imports {strangers}"


@pytest.mark.parametrize("part", LAYERS)
def test_parts_of_supervisor_import_downwards(part: str) -> None:
    directory = ROOT / "supervisor" / part
    sources = files(f"supervisor/{part}") if directory.is_dir() else [directory.with_suffix(".py")]
    for path in sources:
        used = {name.split(".")[1] for name in imports(path) if name.startswith("supervisor.")}
        assert used <= LAYERS[part] | {part}, f"{name_of(path)} imports supervisor's {used - LAYERS[part] - {part}}"


def test_a_shim_is_lean() -> None:
    """Its memory is counted a thousandfold, and an import in a shim is one that an upgrade can break."""
    heavy = "asyncio dataclasses inspect logging multiprocessing pathlib psutil sqlite3 ssl subprocess tempfile"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import supervisor.shim.zygote; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(heavy.split())


@pytest.mark.parametrize("module", IMPORTED_IN_ONE_PLACE)
def test_is_imported_in_one_place(module: str) -> None:
    users = [name_of(path) for path in ALL if module in roots(path)]
    assert len(users) <= 1, f"{module} is imported by {users}"


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_nothing_is_unpickled(path: Path) -> None:
    assert not roots(path) & UNPICKLERS
    for place, node in everywhere(path):
        # A multiprocessing Connection unpickles in recv(), which takes no argument; a socket's recv() needs one.
        is_recv = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "recv"
        assert not (is_recv and isinstance(node, ast.Call) and not node.args), f"{place}: recv() unpickles"


def literal(node: ast.AST) -> bytes:
    """Return what a text or bytes literal holds; nothing for another node."""
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, bytes) else value.encode(errors="replace") if isinstance(value, str) else b""


@pytest.mark.parametrize("path", ALL, ids=name_of)
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


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_the_operating_system_is_asked_for_in_hostos_only(path: Path) -> None:
    if path.is_relative_to(ROOT / "supervisor" / "hostos"):
        return
    assert "platform" not in roots(path)
    assert "sys.platform" not in set(imports(path))
    for place, node in everywhere(path):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("sys", "platform"), ("os", "name"), ("os", "uname")}, place


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_is_short_and_says_what_it_is(path: Path) -> None:
    lines = len(path.read_bytes().splitlines())
    assert lines <= MODULE_LINES_LIMIT, f"{name_of(path)} has {lines} lines"
    # Only an `__init__.py` may go without: supervisor's is shared with another distribution.
    assert ast.get_docstring(tree(path)) or path.name == "__init__.py", f"{name_of(path)} has no docstring"
    for place, node in everywhere(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_LIMIT, f"{place}: {node.name} has {length} lines"


def test_supervisor_shares_its_name_with_supervisord() -> None:
    own = {path.stem for path in (ROOT / "supervisor").iterdir() if path.stem not in {"__init__", "__pycache__", "py"}}
    assert not own & set(SUPERVISORD_MODULES.split())
    init = (ROOT / "supervisor" / "__init__.py").read_text()
    assert init == '__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'
