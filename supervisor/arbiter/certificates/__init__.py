"""Certificates: made, read, issued and revoked."""
