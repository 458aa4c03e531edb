"""Snapshots of etcd: taken and verified, and put back on all members at once."""
