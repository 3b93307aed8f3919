"""Errors of a machine that has no more of something, in words: no mistake of this program, and nothing for a stack trace."""

import errno

_WORDS = {
    errno.EMFILE: "too many open files in one process: raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.EAGAIN: "no more processes or threads: raise the limit (ulimit -u), or that of the container",
    errno.ENOMEM: "not enough memory",
    errno.ENOSPC: "no space left on a disk: free some, or set TMPDIR to a folder on another one",
    errno.EDQUOT: "a disk quota is exceeded: free some space, or set TMPDIR to a folder on another one",
    errno.EFBIG: "a file exceeds the size limit: raise the limit (ulimit -f)",
}


def scarcity(error: BaseException) -> str | None:
    """What this machine has too little of, by an error that it caused; None for any other error."""
    if isinstance(error, MemoryError):
        return _WORDS[errno.ENOMEM]
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return _WORDS[errno.EAGAIN]
    if not isinstance(error, OSError) or error.errno not in _WORDS:
        return None
    words = _WORDS[error.errno]
    return f"{error.filename}: {words}" if error.filename else words
