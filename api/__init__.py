"""The outermost room: the HTTP API and the command line."""
