"""The `levity` command: a module per command, imported when it is run."""
