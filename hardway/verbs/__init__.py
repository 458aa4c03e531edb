"""The command line: Invoke tasks by group. The only part of the kit that prints."""
