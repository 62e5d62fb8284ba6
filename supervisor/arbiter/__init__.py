"""The arbiter.

Starts and restarts engine and front-end, and holds what must outlive them. Parses no byte of a client.
"""
