"""How clients get in: limits, TLS, and the handshake."""
