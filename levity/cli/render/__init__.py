"""A log as people and programs read it."""
