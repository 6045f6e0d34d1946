"""Errors that a person reads: one sentence each.

A `SepkitError` says what was expected, what was found, in which file, and what to do; the command line
prints it and exits with 1.  A `UsageError` is a wrong call; the command line exits with 2.
"""


class SepkitError(Exception):
    """Work can't go on; the message is one clear sentence."""


class UsageError(SepkitError):
    """The call was wrong: an unknown name, a value out of range."""
