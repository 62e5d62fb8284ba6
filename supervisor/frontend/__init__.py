"""The front-end: speaks with clients, passes their requests to the engine, reads spools. Keeps no task's state."""
