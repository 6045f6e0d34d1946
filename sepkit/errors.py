"""Errors that a person reads: one sentence each.

A `SepkitError` says what was expected, what came, in which file, and what to do next; the command
line prints it as it is and exits with 1.  A `UsageError` is a call that was wrong in itself; the
command line exits with 2.
"""


class SepkitError(Exception):
    """Work can't go on; the message is one clear sentence for the person at the keyboard."""


class UsageError(SepkitError):
    """The call itself was wrong: an unknown name, a value out of range."""
