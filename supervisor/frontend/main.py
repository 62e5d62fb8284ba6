"""The front-end process.

Runs in: front-end, forked by the arbiter. Owns: the server's threads and the pipe to the engine.
"""

import os
import socket
import sys
import threading
import time
from multiprocessing.connection import Connection

from supervisor.frontend.engine_client import EngineClient
from supervisor.frontend.server import Server
from supervisor.frontend.shared import Shared
from supervisor.hostos.identity import become
from supervisor.hostos.kernel import forbid_privileges, preload_libgcc
from supervisor.ipc.child import be_child, show_front_end
from supervisor.ipc.control_channel import ControlChannel, Message
from supervisor.log import log
from supervisor.settings import Access

__all__ = ["run_frontend"]

# How long requests in flight may still take once levityd is told to stop.
_FAREWELL_S = 1.0
_SWITCH_INTERVAL_S = 0.0005


def run_frontend(connection: Connection, pipe: Connection, listener: socket.socket, access: Access) -> None:
    """Be the front-end until the arbiter says stop or is gone. Never returns: the process ends here."""
    be_child("front-end", "levity-frontend", [connection.fileno(), pipe.fileno(), listener.fileno()])
    status = 1
    try:
        control = ControlChannel(connection)
        preload_libgcc()
        # Reading long logs is work: a short request must not wait for many times the usual 5 ms.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        show_front_end()
        _serve(control, pipe, listener, access)
        status = 0
    except Exception as error:  # noqa: BLE001 The outermost boundary: one line; the arbiter starts a new front-end.
        log(f"levityd: front-end: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def _drop_privileges(access: Access) -> None:
    """Become an unprivileged user where levityd is root: an attacker may take this process over."""
    os.chdir("/")
    if access.frontend_ids is not None:
        become(*access.frontend_ids)
    forbid_privileges()


def _serve(control: ControlChannel, pipe: Connection, listener: socket.socket, access: Access) -> None:
    engine = EngineClient()
    engine.connect(os.dup(pipe.fileno()))
    pipe.close()
    server = Server(listener, Shared(engine, access))
    # All code is loaded by now: the user that the front-end becomes may not be allowed to read it.
    _drop_privileges(access)
    threading.Thread(target=engine.run, daemon=True, name="engine").start()
    # The server ends with the process, so it need not wake up to look whether it has been shut down.
    threading.Thread(target=server.serve_forever, args=(None,), daemon=True, name="server").start()
    control.send("ready")
    if _obey(control, engine):
        _finish(server)


def _obey(control: ControlChannel, engine: EngineClient) -> bool:
    """Do what the arbiter says until it says stop; False if it is gone, and the next levityd waits for our end."""

    def connect(message: Message) -> None:
        if (fd := message.take_descriptor()) >= 0:
            engine.connect(fd)

    handlers = {"ping": lambda _message: control.send("pong"), "peer": connect}
    while (message := control.wait()) is not None and message.verb != "stop":
        control.dispatch([message], handlers)
    return message is not None


def _finish(server: Server) -> None:
    """Let answers that are under way go out."""
    give_up_at = time.monotonic() + _FAREWELL_S
    while server.is_answering and time.monotonic() < give_up_at:
        time.sleep(0.01)
