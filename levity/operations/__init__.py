"""What a client asks of a levityd and that takes more than one request, a module each."""
