"""Documents, taken apart: sections, tables, names in backticks. Runs in: tests. Owns: nothing."""

import re
from pathlib import Path

from tests.support.paths import ROOT

__all__ = ["DOCUMENTS", "cell_words", "page", "quoted", "section", "source_files", "tables", "tree_of_files"]

DOCUMENTS = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))


def page(name: str) -> str:
    """Return the text of a document, named from the top of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Return what stands under a heading, to the next heading of any level."""
    found = re.search(rf"^##+ (?:\d+\. )?{re.escape(title)}$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[1]


def tables(text: str) -> list[list[list[str]]]:
    """Return each table as its rows of cells, the heading's row first and the line below it left out."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    rows = [[[cell.strip() for cell in line.strip("|").split("|")] for line in one.splitlines()] for one in found]
    return [[row for row in one if not re.fullmatch(r"[-: ]+", row[0])] for one in rows]


def quoted(text: str) -> list[str]:
    """Return what stands in single backticks, outside of blocks of code."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def cell_words(cell: str) -> list[str]:
    """Return the items of a cell that is a list: `a`, `b` and `c`."""
    return [word for word in re.split(r", | and ", cell.replace("`", "")) if word]


def tree_of_files(text: str) -> dict[str, str]:
    """Return the names in a block of indented lines, two blanks or more before what is said about each.

    What is indented further than the line before is in that directory.
    """
    found: dict[str, str] = {}
    directory = ""
    for line in re.findall(r"^    (\S.*|  \S.*)$", text, re.MULTILINE):
        names, _gap, about = line.strip().partition("  ")
        if line.startswith("  "):
            names = ", ".join(f"{directory}{name}" for name in names.split(", "))
        elif names.endswith("/ID/"):
            directory, names = names, f"{names.partition('/')[0]}/"
        for name in names.split(", "):
            found[name] = about.strip()
    return found


def source_files(*packages: str) -> list[Path]:
    """Return the modules of these packages."""
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
