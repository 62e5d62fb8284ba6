"""Who a client is, what it may do, as whom its tasks run, and the record of all that."""
