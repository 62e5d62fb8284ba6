"""The operations that take more than one request, a module each, and what they share."""
