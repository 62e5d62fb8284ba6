"""Fuzz what unauthenticated peers can reach, guided by coverage. Runs in: a developer's shell. Owns: nothing.

    .venv/bin/python -m pip install atheris
    .venv/bin/python contrib/fuzz/run.py frames|handshake|envelopes|pipe [-max_total_time=60] [CORPUS_DIRECTORY]

Options with one dash are libFuzzer's. A crash is written to ./crash-*, and repeated with that file as the argument.
atheris is no dependency of levity: the tests run the same targets with what hypothesis makes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> int:
    """Run one target until it is stopped."""
    try:
        import atheris  # type: ignore[import-untyped]
    except ImportError:
        print("fuzz: atheris is not installed: .venv/bin/python -m pip install atheris", file=sys.stderr)
        return 77  # Test drivers take this code for "skipped".
    with atheris.instrument_imports(include=["levity", "supervisor"]):
        from contrib.fuzz.targets import TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        print(f"usage: run.py {'|'.join(TARGETS)} [LIBFUZZER OPTION] ... [CORPUS]", file=sys.stderr)
        return 2
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
