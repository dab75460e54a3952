"""The command line: each command parses, calls, and prints; what it says is decided below it."""
