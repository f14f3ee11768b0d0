"""Products written in C, compiled by the machine's own compiler when they are first wanted."""
