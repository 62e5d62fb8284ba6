"""One end of the pipe between front-end and engine. Runs in: engine, front-end. Owns: its descriptor, and those it got.

The pipe is a byte stream: non-blocking, with levity's own frames. A descriptor goes along with the first byte of its
frame (unix(7), SCM_RIGHTS), so descriptors come in the order of the frames that claim them.
"""

import array
import os
import socket
from collections import deque

from levity.errors import ProtocolError

__all__ = ["Pipe"]

_READ_SIZE = 256 * 1024
# Not CMSG_SPACE, in which there would be room for two.
_ROOM_FOR_ONE = socket.CMSG_LEN(array.array("i").itemsize)
# An honest peer never has so many descriptors under way that no frame has claimed yet.
_UNCLAIMED_LIMIT = 64


class Pipe:
    """Frames out, bytes in, and descriptors both ways. OSError means that the other end is gone.

    ProtocolError means that descriptors cannot be told apart any more: the stream is not to be read further.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._outbox: deque[tuple[memoryview, int]] = deque()
        self._arrived: deque[int] = deque()
        self.outbox_bytes = 0

    def __repr__(self) -> str:
        return f"<Pipe {self._socket.fileno()}, {self.outbox_bytes} B out>"

    def fileno(self) -> int:
        """Return the descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def put(self, frame: bytes, fd: int = -1) -> None:
        """Have a frame sent by the next `flush`, and a descriptor with it, which is closed here then."""
        self._outbox.append((memoryview(frame), fd))
        self.outbox_bytes += len(frame)

    def flush(self) -> None:
        """Send as much as the kernel takes now."""
        try:
            while self._outbox:
                rest, fd = self._outbox[0]
                done = self._send(rest, fd)
                self.outbox_bytes -= done
                if done < len(rest):
                    self._outbox[0] = (rest[done:], -1)
                else:
                    self._outbox.popleft()
        except BlockingIOError:
            pass

    def _send(self, data: memoryview, fd: int) -> int:
        if fd < 0:
            return self._socket.send(data)
        done = self._socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        os.close(fd)
        return done

    def receive(self) -> bytes:
        """Return the next bytes, b"" at the end of the stream; BlockingIOError when there are none now."""
        data, ancillary, flags, _address = self._socket.recvmsg(_READ_SIZE, _ROOM_FOR_ONE, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._arrived.extend(array.array("i", content[: len(content) // 4 * 4]))
        if flags & socket.MSG_CTRUNC:
            # More than one came at once, which levityd never sends. Or this process may not have more descriptors: then
            # this one is lost, and the next would be taken for it.
            raise ProtocolError("a descriptor is lost")
        if len(self._arrived) > _UNCLAIMED_LIMIT:
            raise ProtocolError("descriptors come that nothing is said of")
        return data

    def take_descriptor(self) -> int:
        """Return the descriptor that belongs to the frame that was just read, which is the caller's now; -1: none."""
        return self._arrived.popleft() if self._arrived else -1

    def close(self) -> None:
        """Close it, and the descriptors that were on their way."""
        self._socket.close()
        for fd in (*(fd for _frame, fd in self._outbox if fd >= 0), *self._arrived):
            os.close(fd)
        self._outbox.clear()
        self._arrived.clear()
        self.outbox_bytes = 0
