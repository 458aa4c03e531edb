"""Every authority and key replaced while the cluster is in use: prepare, switch, finish, each an ordinary push behind proofs of its own."""
