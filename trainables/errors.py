"""The one kind of error that is the user's to mend."""


class UserError(Exception):
    """Bad input: the message is one line that says what is wrong and what to do.

    Commands print it without a traceback and exit with code 2.
    """
