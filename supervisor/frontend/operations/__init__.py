"""What the front-end does itself of an operation: sending output, waiting."""
