"""root's levityd listens by default where every user of the host looks for it."""

import os
import shutil
import subprocess

import pytest

from tests.support.paths import clean_environment, levityd_command

# A view of the file system in which those places are this test's own.
ELSEWHERE = ["unshare", "--mount", "/bin/sh", "-c"]
PRELUDE = "mount -t tmpfs none /run && mount -t tmpfs none /var/lib &&"


def can_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*ELSEWHERE, f"{PRELUDE} true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_unshare(), reason="needs root and mount namespaces")


def started(prelude: str, environment: dict[str, str]) -> tuple[str, str]:
    """Start levityd without arguments; return the first line that it says, and what is in /run/levity meanwhile."""
    # What is looked at is in its namespace, so it is a shell in there that looks.
    script = (
        f"{PRELUDE} {prelude} mkfifo /run/said; "
        '"$0" "$@" 2>/run/said & read -r line </run/said; echo "$line"; '
        "stat -c '%a %u %n' /run/levity /run/levity/* /var/lib/levity; kill $!; wait $!"
    )
    done = subprocess.run(
        [*ELSEWHERE, script, *levityd_command()],
        capture_output=True,
        text=True,
        env={**clean_environment(), **environment},
        timeout=30,
        check=False,
    )
    line, _newline, rest = done.stdout.partition("\n")
    return line, rest


def test_root_listens_where_all_users_look() -> None:
    line, modes = started("", {})
    assert line == "Listening on unix:/run/levity/levity.sock"
    assert modes.splitlines() == [
        "755 0 /run/levity",
        "666 0 /run/levity/levity.sock",
        "600 0 /run/levity/levity.sock.lock",
        "700 0 /var/lib/levity",
    ]


def test_a_directory_that_others_can_write_to_is_refused() -> None:
    line, _modes = started("mkdir -m 777 /run/levity;", {})
    assert line.startswith("levityd: cannot listen on unix:/run/levity/levity.sock: /run/levity must be")


def test_with_a_state_directory_that_was_named_it_is_in_there() -> None:
    line, modes = started("", {"LEVITY_STATE_DIR": "/var/lib/levity"})
    assert line == "Listening on unix:/var/lib/levity/levity.sock"
    assert "/run/levity" not in modes
