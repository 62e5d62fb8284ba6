"""Who gets in: limits, TLS, and finding out who it is."""
