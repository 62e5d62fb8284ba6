"""levityd's own commands: `levityd token` and `levityd certs`."""
