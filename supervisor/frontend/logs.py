"""Send a task's output to a client. Runs in: front-end. Owns: the spool files of one reading."""

import socket

from levity.errors import HostError
from levity.protocol.frames import CHUNK_LIMIT, chunk_head
from levity.states import State
from supervisor.spool.layout import task_path
from supervisor.spool.reader import SpoolReader
from supervisor.spool.records import JsonObject

__all__ = ["send_logs"]


def send_logs(connection: socket.socket, record: JsonObject) -> JsonObject:
    """Send what there is of a task's output, in order; return how many bytes each stream had.

    Bytes go from file to socket inside the kernel (sendfile(2)). OSError when the client is gone.
    """
    try:
        reader = SpoolReader(task_path(record["id"]))
    except FileNotFoundError:
        raise HostError(f"the output of task {record['id']} is not stored any more") from None
    try:
        for extent in reader.extents(CHUNK_LIMIT, over=State(record["state"]).is_end):
            connection.sendall(chunk_head(extent.stream, extent.time_ns, extent.length))
            _send_file(connection, extent.fd, extent.position, extent.length)
        return {"stdout": reader.ends[1], "stderr": reader.ends[2]}
    finally:
        reader.close()


def _send_file(connection: socket.socket, fd: int, position: int, length: int) -> None:
    with open(fd, "rb", buffering=0, closefd=False) as file:
        sent = connection.sendfile(file, position, length)
    if sent != length:
        # The frame's length is announced already: nothing but the end of the connection can tell the client.
        raise OSError("a spool file is shorter than its index says")
