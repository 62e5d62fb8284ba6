"""A connection to a levityd: connect, log in, call, and connect again after a break."""
