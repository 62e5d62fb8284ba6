"""A proof on loopback is bound to host and network namespace, which all have the same addresses. Runs in: pytest."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from levity.channel_binding import boot_id, endpoint_binding
from tests.support.paths import ROOT

CODE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from levity.channel_binding import endpoint_binding
print(endpoint_binding("127.0.0.1", 4321).decode())
"""


def binding_in(*command: str) -> str:
    argv = [*command, sys.executable, "-I", "-S", "-c", CODE]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_another_process_here_has_the_same() -> None:
    assert binding_in() == endpoint_binding("127.0.0.1", 4321).decode()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
def test_another_network_namespace_has_another() -> None:
    here, there = endpoint_binding("127.0.0.1", 4321).decode(), binding_in("unshare", "--net")
    assert here.split()[:2] == there.split()[:2]
    assert here.split()[2] != there.split()[2]


def test_the_boot_id_is_the_kernels() -> None:
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip() != ""
