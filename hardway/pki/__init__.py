"""The PKI: what certs/ declares, what state/ holds, and what follows for each host."""
