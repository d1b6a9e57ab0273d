"""What ends a command early."""

# CliError
# ├── UsageFault    the caller must change something; nothing was called (2)
# ├── ApiFault      the server refused (2)
# ├── ServerGone    the server does not answer (3)
# └── Stopped       the run did not come to its end; the same command goes on (3)
# Interrupted       a signal asked us to stop (128 + its number)


class CliError(Exception):
    """Ends the command with its message and exit status."""

    status = 2


class UsageFault(CliError):
    """The caller must change something; nothing was called."""


class ApiFault(CliError):
    """The server refused."""

    def __init__(self, message: str, *, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class ServerGone(CliError):
    """The server does not answer."""

    status = 3


class Stopped(CliError):
    """The run did not come to its end; the same command goes on."""

    status = 3


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception, so that nothing swallows it."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
