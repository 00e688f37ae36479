"""The process: what it is given, what is wired to what, how it takes a new configuration, how it ends.

Called by `main` and by the command line's laptop mode. It decides nothing about a call, reads no byte of
the wire, and refuses a configuration that cannot be used by ConfigError, at its start; later it keeps the
one before.
"""
