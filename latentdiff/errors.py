"""The one error a user can cause."""


class InputError(ValueError):
    """What the user brought (a file, a value, a shape) cannot be used.

    The message is one line that names what was expected and what was found. The command line prints it as
    ``error: ...`` and exits with 1; a wrong flag is a usage error there and exits with 2.
    """
