"""Who may import what: the rooms of the house, each above those that it uses; and which names are not ours."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.source import MODULES, circle, nodes_of, run_time_imports, typing_imports

# The rooms from the ground up, and on which others each stands: it may import those, and what they stand on in turn. A
# module is in the room with the longest name that its own begins with: "levity" has errors, addresses, sizes and so on.
ROOMS: dict[str, str] = {
    "levity": "",
    "levity.protocol": "levity",
    "levity.task": "levity.protocol",
    "levity.start_options": "levity.protocol",
    "levity.transport": "levity.protocol",
    "levity.operations": "levity.transport levity.task levity.start_options",
    "levity.client": "levity.operations",
    "levity.cli": "levity.client",
    "levity.__main__": "levity.cli",
    "supervisor": "",
    "supervisor.hostos": "",
    "supervisor.log": "",
    "supervisor.settings": "levity",
    "supervisor.spool": "levity.start_options supervisor.hostos",
    # A shim outlives all others and must stay lean.
    "supervisor.shim": "levity.protocol supervisor.spool",
    "supervisor.security": "levity.protocol supervisor.hostos supervisor.log",
    "supervisor.ipc": "levity.protocol supervisor.settings supervisor.spool",
    # An operation uses the tasks, and the tasks use what is stored of them.
    "supervisor.engine.loop": "",
    "supervisor.engine.storage": "supervisor.engine.loop supervisor.log supervisor.settings supervisor.spool",
    "supervisor.engine.tasks": "supervisor supervisor.engine.storage supervisor.shim",
    "supervisor.engine.access": "supervisor.security supervisor.settings supervisor.spool",
    "supervisor.engine.operations": "supervisor.engine.access supervisor.engine.tasks supervisor.ipc",
    "supervisor.engine": "supervisor.engine.operations",
    # Front-end and engine talk through a pipe and know nothing of each other's insides.
    "supervisor.frontend.operations.fair_semaphore": "",
    "supervisor.frontend.client_socket": "levity.protocol supervisor.spool "
    "supervisor.frontend.operations.fair_semaphore",
    "supervisor.frontend.engine_client": "supervisor.ipc supervisor.log",
    "supervisor.frontend.operations": "supervisor.frontend.client_socket supervisor.frontend.engine_client",
    "supervisor.frontend.admission": "supervisor.frontend.client_socket supervisor.frontend.engine_client",
    "supervisor.frontend": "supervisor.frontend.admission supervisor.frontend.operations",
    "supervisor.arbiter.startup_error": "",
    "supervisor.arbiter.state_dir": "supervisor.arbiter.startup_error supervisor.hostos supervisor.settings",
    "supervisor.arbiter.certificates": "supervisor.arbiter.startup_error supervisor.security supervisor.settings",
    "supervisor.arbiter.frontend_user": "",
    "supervisor.arbiter.access": "supervisor.arbiter.certificates supervisor.arbiter.frontend_user",
    "supervisor.arbiter.options": "supervisor.arbiter.access",
    "supervisor.arbiter.commands": "supervisor.arbiter.options supervisor.arbiter.state_dir",
    "supervisor.arbiter": "supervisor.arbiter.commands supervisor.engine supervisor.frontend",
}

# PyPI's supervisor 4.3 installs these modules into the same package.
SUPERVISORD_MODULES = (
    "childutils compat confecho datatypes dispatchers events http http_client loggers medusa options pidproxy poller "
    "process rpcinterface scripts skel socket_manager states supervisorctl supervisord templating tests ui version web "
    "xmlrpc"
)

# Heavy, or different from one system to the next: each is wrapped by one module that says why.
IMPORTED_IN_ONE_PLACE = ["cryptography", "ctypes", "psutil", "sqlite3", "ssl"]


def room_of(module: str) -> str:
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


def below(room: str) -> set[str]:
    """Return the rooms that a room stands on, those under them included."""
    stands_on = ROOMS[room].split()
    return set(stands_on).union(*(below(other) for other in stands_on))


def roots(path: Path) -> set[str]:
    """Return the first words of everything that a file imports."""
    return {name.partition(".")[0] for name in _imported_names(path)}


def _imported_names(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_the_rooms_stand_on_those_before_them() -> None:
    seen: set[str] = set()
    for room, stands_on in ROOMS.items():
        assert set(stands_on.split()) <= seen, f"{room} stands on a room that is not below it"
        assert any(room_of(module) == room for module in MODULES), f"no module is in {room}"
        seen.add(room)


def test_imports_point_down() -> None:
    wrong = []
    for module in MODULES:
        room = room_of(module)
        # At its door, `levity` names the home of each public name for type checkers only.
        names = run_time_imports(module) | (typing_imports(module) if module != "levity" else set())
        wrong += [f"{module} imports {name}" for name in names if room_of(name) not in {room, *below(room)}]
    assert not wrong


def test_no_imports_go_in_a_circle() -> None:
    """Not at the top of a module, and not inside functions either, where Python would not mind."""
    found = circle({module: run_time_imports(module) for module in MODULES})
    assert not found, " -> ".join(found)


def test_levity_imports_the_standard_library_and_itself_only() -> None:
    for module, path in MODULES.items():
        # The standard library has `_sha2` from Python 3.12 on, `_sha256` before.
        others = roots(path) - sys.stdlib_module_names - {"levity", "_sha2", "_sha256"}
        assert not others or module.startswith("supervisor"), f"{module} imports {others}"


def test_supervisor_imports_nothing_but_levity_psutil_and_the_tls_extra() -> None:
    for module, path in MODULES.items():
        others = roots(path) - sys.stdlib_module_names - {"levity", "supervisor", "psutil", "cryptography"}
        assert not others or module.startswith("levity"), f"{module} imports {others}"


@pytest.mark.parametrize("name", IMPORTED_IN_ONE_PLACE)
def test_is_imported_in_one_place(name: str) -> None:
    users = [module for module, path in MODULES.items() if name in roots(path)]
    assert len(users) == 1, f"{name} is imported by {users}"


def test_a_shim_is_lean() -> None:
    """Its memory is counted a thousandfold, and an import in a shim is one that an upgrade can break."""
    heavy = "asyncio dataclasses inspect logging multiprocessing pathlib psutil sqlite3 ssl subprocess tempfile"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import supervisor.shim.zygote; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(heavy.split())


def test_supervisor_shares_its_name_with_supervisord() -> None:
    own = {path.stem for path in (ROOT / "supervisor").iterdir() if path.stem not in {"__init__", "__pycache__", "py"}}
    assert not own & set(SUPERVISORD_MODULES.split())
    init = (ROOT / "supervisor" / "__init__.py").read_text()
    assert init == '__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'


# The finders themselves


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        pytest.param({"a": "bc", "b": "c", "c": ""}, "", id="none"),
        pytest.param({"a": "a"}, "aa", id="a module that imports itself"),
        pytest.param({"a": "b", "b": "c", "c": "b"}, "bcb", id="two that import each other"),
        pytest.param({"a": "b", "b": "c", "c": "da", "d": "b"}, "abca", id="the first of the shortest"),
        pytest.param({"a": "b", "b": "c", "c": "ad", "d": "e", "e": "d"}, "ded", id="the shorter of two"),
    ],
)
def test_a_circle_is_found(graph: dict[str, str], found: str) -> None:
    assert "".join(circle(graph)) == found


def test_imports_are_found_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "module.py"
    path.write_text("""
from levity import tls
import levity.errors, os
if TYPE_CHECKING:
    from levity.client import Client
else:
    import levity.states
def later():
    try:
        pass
    finally:
        from levity.sizes import parse_size
""")
    monkeypatch.setitem(MODULES, "module", path)
    assert run_time_imports("module") == {"levity.tls", "levity.errors", "levity.states", "levity.sizes"}
    assert typing_imports("module") == {"levity.client"}
