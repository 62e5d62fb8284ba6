"""The operations that the front-end does itself, or has a part in, a module each."""
