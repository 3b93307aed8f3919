"""The error tree. A class says what the runner does with it.

    ModerationError
    ├── UserError            stop: the user must change something (exit code 2)
    │   ├── SettingsError        a setting or command-line value
    │   ├── PolicyError          a policy file
    │   ├── SourceError          the images to moderate cannot be listed
    │   ├── OutputError          results cannot be written to the output
    │   └── ModelError           a model cannot be loaded
    ├── RunError             stop: the run cannot be published (exit code 1)
    │   ├── AccountingError      listed != unchanged + scored + errored
    │   ├── QuarantinedError     quality checks failed
    │   ├── StoreDownError       a store no longer responds
    │   └── WorkerStormError     workers keep dying
    ├── StorageError         an object cannot be read or written; `code` and `retryable` say why
    └── ImageError           skip the image: it becomes an error row with `code`

Every error survives pickling, since it may be raised in a Ray worker.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why an object has no scores: the stable values of `decisions.error_code`."""

    NOT_FOUND = "not_found"
    CHANGED = "changed"
    ACCESS_DENIED = "access_denied"
    STORAGE_ERROR = "storage_error"
    ARCHIVED = "archived"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNSUPPORTED_FORMAT = "unsupported_format"
    CORRUPT = "corrupt"
    WORKER_KILLED = "worker_killed"
    WORKER_TIMEOUT = "worker_timeout"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether a later attempt may succeed (`--retry-errors`)."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        ErrorCode.CHANGED,
        ErrorCode.ACCESS_DENIED,
        ErrorCode.STORAGE_ERROR,
        ErrorCode.WORKER_KILLED,
        ErrorCode.WORKER_TIMEOUT,
        ErrorCode.INTERNAL,
    }
)


class ModerationError(Exception):
    """Base of all errors raised on purpose. Its text says what was found, where, and what to do."""

    exit_code = 1


class UserError(ModerationError):
    """The user's input is wrong; nothing was changed."""

    exit_code = 2


class SettingsError(UserError):
    """A setting or command-line value cannot be used."""


class PolicyError(UserError):
    """A policy file cannot be used."""


class SourceError(UserError):
    """The images to moderate cannot be listed."""


class OutputError(UserError):
    """Results cannot be written to the output."""


class ModelError(UserError):
    """A model cannot be loaded.

    Attributes:
        message: what is wrong.
        hint: what to do; the error's text is both.
        key: the key of the policy's `model` that is at fault; empty if none is.
    """

    def __init__(self, message: str, hint: str = "", *, key: str = "") -> None:
        super().__init__(f"{message}: {hint}" if hint else message)
        self.message, self.hint, self.key = message, hint, key


class RunError(ModerationError):
    """The run cannot be finished."""


class AccountingError(RunError):
    """Some listed object has no row, or more than one."""


class QuarantinedError(RunError):
    """A quality check failed; the run is in `_quarantine/`."""


class StoreDownError(RunError):
    """A store that holds images no longer responds; the run can be resumed when it does."""


class WorkerStormError(RunError):
    """Workers keep dying."""


class _CodedError(ModerationError):
    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail}"


class StorageError(_CodedError):
    """An object cannot be read or written."""


class ImageError(_CodedError):
    """An image can never be scored: its bytes are at fault."""
