"""The source of levity and supervisor as a graph: which module imports which. Runs in: pytest."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT

__all__ = ["MODULES", "circle", "name_of", "nodes_of", "parsed", "run_time_imports", "typing_imports"]


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# Every module by its dotted name; a package is the module that its __init__.py is.
MODULES: dict[str, Path] = {
    _dotted(path): path for package in ("levity", "supervisor") for path in sorted((ROOT / package).rglob("*.py"))
}


def name_of(path: Path) -> str:
    """Return a file's path in this checkout."""
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_bytes(), str(path))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Return every node of a file's syntax tree."""
    return list(ast.walk(parsed(path)))


def run_time_imports(module: str) -> frozenset[str]:
    """Return the modules of ours that `module` imports when it runs, at its top or inside a function."""
    return _imports(module, MODULES[module], typing=False)


def typing_imports(module: str) -> frozenset[str]:
    """Return the modules of ours that `module` imports for the type checker only."""
    return _imports(module, MODULES[module], typing=True) - run_time_imports(module)


@cache
def _imports(module: str, path: Path, *, typing: bool) -> frozenset[str]:
    return frozenset(_imported(module, _nodes(parsed(path), typing=typing)))


def _nodes(node: ast.AST, *, typing: bool, inside: bool = False) -> Iterator[ast.AST]:
    """Yield the nodes inside of `if TYPE_CHECKING:` (with `typing`), or all the others."""
    if typing == inside:
        yield node
    for name, value in ast.iter_fields(node):
        is_guarded = inside or (name == "body" and isinstance(node, ast.If) and _is_type_checking(node.test))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _nodes(child, typing=typing, inside=is_guarded)


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _imported(module: str, nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: a relative import"
            # `from package import name`: the name may be a module of the package, or something that is in it.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            found = next((known for known in (name, name.rpartition(".")[0]) if known in MODULES), None)
            if found is not None:
                yield found


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a way through the graph that ends where it began, as short as there is one; [] if there is none."""
    circles = [found for start in graph if (found := _way_back(graph, start))]
    return min(circles, key=len, default=[])


def _way_back(graph: Mapping[str, Iterable[str]], start: str) -> list[str]:
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for name in sorted(graph[way[-1]]):
            if name == start:
                return [*way, name]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
