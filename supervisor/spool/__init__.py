"""A task's directory on disk: the truth about the task (docs/architecture.md). Shared by shim, engine and front-end."""
