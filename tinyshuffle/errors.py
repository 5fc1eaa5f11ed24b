"""The one exception that is meant for the person at the keyboard."""

from __future__ import annotations


class TinyshuffleError(ValueError):
    """A mistake that its reader can mend.

    The message is one sentence: what was given, what was expected, what to do. The command line
    prints it without a traceback. It is a ``ValueError``, so code that catches those keeps working.
    """
