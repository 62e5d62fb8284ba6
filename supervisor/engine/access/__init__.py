"""Who a client is, what it may do, as which user its tasks run, and the audit of all that."""
