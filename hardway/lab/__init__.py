"""Providers of hosts: each ends where SSH answers and known_hosts is written."""
