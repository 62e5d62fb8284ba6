"""A task's directory on disk: the truth about the task (docs/architecture.md). For shim, engine and front-end."""
