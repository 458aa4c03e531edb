"""Keeping state/: one encrypted archive of it, and what of it the hosts give back."""
