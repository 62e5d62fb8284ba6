"""Users, roles, tokens, and files that only one user may read."""
