"""The version of levity. Runs in: every process. Owns: nothing."""

__all__ = ["__version__"]

__version__ = "0.1.0"
