"""Process titles, as ps(1) shows them. Runs in: every supervisor process. Owns: the memory of its own arguments."""

import os

from supervisor.hostos.kernel import set_name

__all__ = ["set_title"]


def _argument_area() -> tuple[int, int]:
    """Return where the kernel reads this process's command line: address and size; (0, 0) where that is not known."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    # proc(5): arg_start and arg_end are fields 48 and 49; the first after the ")" is field 3.
    start, end = (int(fields[48 - 3]), int(fields[49 - 3])) if len(fields) > 46 else (0, 0)
    return start, max(0, end - start)


_start, _size = _argument_area()


def set_title(title: str, name: str) -> None:
    """Show `title` as this process's command line, cut to the room that it has, and `name` (15 bytes) as its name."""
    set_name(name)
    if not _start:
        return
    try:
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        # The last byte stays NUL: otherwise the kernel goes on reading into the environment.
        os.pwrite(memory, title.encode()[: _size - 1].ljust(_size, b"\0"), _start)
    except OSError:
        pass  # The kernel may be set up to refuse it (proc_mem.force_override=never). A title is not worth a failure.
    finally:
        os.close(memory)
