"""What errors of the system and of libraries mean to a person."""

from __future__ import annotations

import errno

from twil.core.errors import TwilError, first_line, missing_extra

KEPT = "kept"
"""What an interruption carries where something of the work was kept, and said."""

_OUT_OF_MEMORY = (
    "out of memory",
    "allocate memory",
    "bad_alloc",
    "bad allocation",
    "failed to map segment",
    "can't start new thread",
    "resource temporarily unavailable",
    "error return without exception set",  # of what runs out of it while it is imported
)
"""What libraries say of it, in lower case."""
_LIBRARIES = frozenset({"google", "onnx", "onnxruntime", "safetensors", "safetensors_rust", "sentencepiece"})
"""Those whose errors are about the files that they read and write."""


def explained(error: BaseException) -> str | None:
    """Say in one line what has gone wrong, and how to mend it; None of what must be an error in twil."""
    said = first_line(error)
    if isinstance(error, TwilError):
        return str(error)
    if _is_of_memory(error):
        return (
            f"there is too little memory ({said}): end other programs, or work on less at a time "
            "(--batch-tokens, or a smaller model)"
        )
    if isinstance(error, ModuleNotFoundError):
        missing = missing_extra(error)
        return str(missing) if missing else None
    if isinstance(error, RecursionError):
        return f"something is nested too deeply to be read ({said}): look for it among the settings and rows"
    if isinstance(error, OverflowError):
        return f"a number is out of range ({said}): choose a smaller one"
    if isinstance(error, OSError):
        if error.errno == errno.EBADF and error.filename is None:
            return "standard output is closed, and results go there: leave it open, or name a file (-o)"
        return str(error)
    if type(error).__module__.partition(".")[0] in _LIBRARIES:
        return f"a file cannot be read or written ({said}): it may be damaged, or the disk full"
    return None


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)
