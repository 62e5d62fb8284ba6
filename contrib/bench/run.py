"""Measure levity on this machine and print a table: `make bench`, or `run.py --quick query tasks`. Owns: nothing.

Each figure stands beside what the same machine does without levity, and beside its target. Nothing is asserted: under
load a machine has other figures, and only the reader knows how busy it was.
"""

import argparse
import os
import platform
import sys
import tempfile
import time

from contrib.bench.measures import MEASURES
from contrib.bench.scratch import Row, Settings
from levity import __version__

HEAD = ("figure", "levity", "beside it", "ratio", "target", "met?")


def main() -> int:
    """Measure what was asked for and print it."""
    options = _options()
    settings = Settings(options.runs or (3 if options.quick else 5), options.quick, options.scratch)
    print(_machine(settings), flush=True)
    rows: list[Row] = []
    try:
        for name in options.measures or MEASURES:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            rows += MEASURES[name](settings)
    finally:
        print(_table(rows), flush=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure levity; prints a table in Markdown.")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"{', '.join(MEASURES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller numbers, fewer runs: a first impression")
    parser.add_argument("--runs", type=int, help="how many runs a median is of (default: 5, with --quick 3)")
    parser.add_argument("--scratch", metavar="DIR", default=tempfile.gettempdir(), help="where to write (up to 5 GiB)")
    options = parser.parse_args()
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    return options


def _machine(settings: Settings) -> str:
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"levity {__version__}, Python {platform.python_version()}, Linux {platform.release()}, "
        f"{len(os.sched_getaffinity(0))} processors, load {load}, {time.strftime('%Y-%m-%d')}; "
        f"medians of {settings.runs} runs{', quick' * settings.quick}\n"
    )


def _table(rows: list[Row]) -> str:
    lines = [list(HEAD), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: list[str], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


if __name__ == "__main__":
    sys.exit(main())
