"""The command line: arguments to config to one verb."""
