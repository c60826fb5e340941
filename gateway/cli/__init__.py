"""The civicgate command: one module a sub-command. Prints for people, exits with 0, 1 or 2."""
