"""The kernel cache on disk, as this process uses it.

`lathe cache --help` has more: entries in detail, bundles, why a kernel was not found.
"""

from __future__ import annotations

from dataclasses import dataclass

from lathe import _engine, cli
from lathe.errors import SpecError

__all__ = ["Entry", "entries", "root", "trim", "verify", "writable"]


@dataclass(frozen=True)
class Entry:
    """One kernel in the cache.

    Attributes
    ----------
    name : str
        32 hex digits, as `lathe cache ls` shows it.
    bytes : int
        Size of its file.
    written : int
        When it was written or last used, in seconds since 1970.
    """

    name: str
    bytes: int
    written: int


def root() -> str:
    """The folder of the cache; empty when there is none."""
    return _engine.engine().cache_root


def writable() -> bool:
    """Whether kernels that are compiled now are kept."""
    return _engine.engine().cache_writable


def entries() -> list[Entry]:
    """What lies in the cache, by name; empty when there is no cache.

    Returns
    -------
    list of Entry
    """
    return [Entry(name, size, written) for name, size, written in _engine.engine().cache_entries()]


def verify() -> str:
    """Reads every entry, those of bundles too; one line says how many are sound.

    Raises
    ------
    lathe.Error
        One is not; the message names it.
    """
    return cli.run(["cache", "verify"]).strip()


def trim(max_bytes: int | None = None) -> str:
    """Removes abandoned files, and the entries longest not used beyond `max_bytes`; one line says what.

    Parameters
    ----------
    max_bytes : int, optional
        The knob LATHE_CACHE_SIZE when left out.

    Returns
    -------
    str

    Raises
    ------
    SpecError
        `max_bytes` is no number of bytes.
    lathe.Error
        The cache cannot be written.
    """
    if max_bytes is None:
        return cli.run(["cache", "trim"]).strip()
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 0:
        raise SpecError(f"is {max_bytes!r}; allowed: a number of bytes", where="max_bytes")
    return cli.run(["cache", "trim", "--to", str(max_bytes)]).strip()
