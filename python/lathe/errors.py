"""What Lathe raises.

Every exception says which argument, file or kernel it is about (``where``), what went wrong, with values (``message``), and, where
there is one, what to do about it (``hint``).
"""

from __future__ import annotations

__all__ = ["CompileError", "Error", "LaunchError", "SpecError", "TraceError", "UnavailableError"]


class Error(Exception):
    """Base of all that Lathe raises.

    Attributes
    ----------
    code : str
        ``"invalid_argument"``, ``"unsupported"``, ``"unavailable"``, ``"compile_failed"``, ``"launch_failed"``, ``"device_lost"``,
        ``"resource_exhausted"`` or ``"internal"``.
    where : str
        The argument, file or kernel that it is about; may be empty.
    message : str
        What went wrong, with values, and what is allowed; several problems are several lines.
    hint : str
        What to do about it; may be empty.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "", code: str = "internal") -> None:
        self.code = code
        self.where = where
        self.message = message
        self.hint = hint
        super().__init__((f"{where}: " if where else "") + message + (f" ({hint})" if hint else ""))


class SpecError(Error, ValueError):
    """A caller's mistake: a spec, an array or another argument that is refused. Nothing was compiled or run."""

    def __init__(self, message: str, *, where: str = "", hint: str = "", code: str = "invalid_argument") -> None:
        super().__init__(message, where=where, hint=hint, code=code)


class TraceError(SpecError, TypeError):
    """A Python function that cannot be read as an expression (`lathe.expr`)."""


class CompileError(Error):
    """A kernel could not be compiled; the message has the end of the compiler's log and says where the source lies."""


class LaunchError(Error):
    """A kernel could not be loaded or launched, or the host executor found a fault in it."""


class UnavailableError(Error):
    """A part is missing on this machine: a compiler, a driver, a program of the package."""


_CLASSES: dict[str, type[Error]] = {
    "invalid_argument": SpecError,
    "unsupported": SpecError,
    "unavailable": UnavailableError,
    "compile_failed": CompileError,
    "resource_exhausted": CompileError,
    "launch_failed": LaunchError,
    "device_lost": LaunchError,
}


def from_status(code: str, where: str, message: str, hint: str) -> Error:
    """The exception of a C++ status; not raised."""
    return _CLASSES.get(code, Error)(message, where=where, hint=hint, code=code)
