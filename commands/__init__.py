"""The commands of the command line: each parses, calls a room, and says what came of it.

Rooms are imported inside the functions that call them, so that `--help` is quick.
"""
