"""A shim of commit e66b08c, as far as its control FIFO goes: frozen, and not to be changed.

It is run as a program of its own, `python old_shim.py DIRECTORY COMMAND...`, makes the task's directory as that version
did, and does with each line on the FIFO what that did: every JSON object without the key "stdin" is its signal. Each
line that it got stands in the file `heard`. Imports nothing of levity.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any


def write(name: str, record: dict[str, Any]) -> None:
    with open(f"{name}.tmp", "w") as file:
        json.dump({"version": 1, **record}, file)
    os.rename(f"{name}.tmp", name)


def main(directory: str, argv: list[str]) -> None:
    os.mkdir(directory, 0o700)
    os.chdir(directory)
    os.setsid()
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot_id = file.read().strip()
    task_id = os.path.basename(directory)
    spec: dict[str, Any] = {
        "id": task_id,
        "argv": argv,
        "cwd": None,
        "env": {},
        "grace_s": 5.0,
        "accepted_ns": time.time_ns(),
    }
    write("spec.json", {**spec, "stdin": True, "merged": False, "log_cap": 0, "boot_id": boot_id})
    lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    os.mkfifo("control", 0o600)
    os.mkfifo("stdin", 0o600)
    control = os.open("control", os.O_RDWR | os.O_NONBLOCK)
    task = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0)
    facts: dict[str, Any] = {"pid": os.getpid(), "start_ticks": 0, "boot_id": boot_id, "grace_s": 5.0, "log_cap": 0}
    facts.update(task_pid=task.pid, started_ns=time.time_ns())
    write("shim.json", facts)
    buffer, kill_at = b"", None
    while task.poll() is None:
        if kill_at is not None and time.monotonic() > kill_at:
            task.kill()
        if not select.select([control], [], [], 0.02)[0]:
            continue
        *lines, buffer = (buffer + os.read(control, 65536)).split(b"\n")
        for line in lines:
            try:
                command = json.loads(line)
            except ValueError:
                continue
            if not isinstance(command, dict):
                continue
            with open("heard", "ab") as heard:
                heard.write(line + b"\n")
            if "stdin" in command:
                continue
            grace_s = command.get("grace_s")
            if not isinstance(grace_s, int | float):
                grace_s = facts["grace_s"]
            facts.setdefault("signalled_ns", time.time_ns())
            facts["grace_s"] = grace_s
            write("shim.json", facts)
            kill_at = time.monotonic() + grace_s
            os.killpg(task.pid, signal.SIGTERM)
    code = task.returncode
    name = None if code >= 0 else signal.Signals(-code).name
    ended = {"state": "Finished", "exit_code": code if code >= 0 else 128 - code, "signal": name, "reason": "frozen"}
    ended.update({key: facts.get(key) for key in ("pid", "task_pid", "started_ns", "signalled_ns", "grace_s")})
    write("exit.json", {**ended, "ended_ns": time.time_ns(), "stdout_bytes": 0, "stderr_bytes": 0, "stored_bytes": 0})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
