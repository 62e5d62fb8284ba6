"""A request as the engine takes it. Runs in: engine. Owns: nothing. Never: does I/O."""

from levity.errors import ProtocolError
from levity.protocol.messages import parse_request
from supervisor.ipc.envelope import Envelope
from supervisor.spool.records import JsonObject

__all__ = ["EngineRequest"]


class EngineRequest:
    """An operation (`method`, `params`), on whose behalf (`ticket`), and how the answer finds its way back.

    * `number`: the front-end's, for the reply's envelope
    * `is_clients`: a client wrote it, so it may be none of the front-end's own
    * `id`: the client's, for the reply itself
    * `size`: how many bytes it came in

    Ticket and number are the envelope's. All else is read from the message, and no key of the message counts as them.
    """

    __slots__ = ("id", "is_clients", "method", "number", "params", "size", "ticket")

    def __init__(
        self,
        method: str,
        params: JsonObject,
        ticket: str = "",
        *,
        number: int = 0,
        is_clients: bool = False,
        id: int | str | None = None,
        size: int = 0,
    ) -> None:
        self.method = method
        self.params = params
        self.ticket = ticket
        self.number = number
        self.is_clients = is_clients
        self.id = id
        self.size = size

    def __repr__(self) -> str:
        return f"<EngineRequest {self.number} {self.method}{' of a client' if self.is_clients else ''}>"

    @classmethod
    def from_envelope(cls, envelope: Envelope) -> "EngineRequest":
        """Return the request in an envelope; ProtocolError or InvalidRequest where that is not understood."""
        if envelope.do not in ("pass", "ask"):
            raise ProtocolError(f"an envelope says to {envelope.do[:64]!r}")
        message = parse_request(envelope.body)
        return cls(
            message.method,
            message.params,
            envelope.ticket,
            number=envelope.number,
            is_clients=envelope.do == "pass",
            id=message.id,
            size=len(envelope.body),
        )
