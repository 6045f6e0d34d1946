"""Errors that a person reads: one sentence each, with what was expected, what was found, in which file, what to do."""


class SepkitError(Exception):
    """Work can't go on; the command line prints the message and exits with 1."""


class UsageError(SepkitError):
    """The call was wrong: an unknown name, a value out of range; the command line exits with 2."""


class OutOfTime(SepkitError):
    """The week's GPU hours or the session end before the next epoch would; all is saved, the same call goes on."""
