"""Hosts over SSH: one POSIX sh script on the far side, and the Machine that talks to it."""
