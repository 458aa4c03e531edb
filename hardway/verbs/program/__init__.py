"""What every verb stands on: the command line, the console, the session, the running cluster."""
