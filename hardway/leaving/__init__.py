"""What leaves: the kit a host, a worker its cluster."""
