"""levity's wire protocol without any I/O: frames, messages and the text form of bytes (docs/protocol.md)."""
