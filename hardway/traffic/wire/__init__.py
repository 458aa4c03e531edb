"""Connections to an API server, one protocol each; nothing is tried again here."""
