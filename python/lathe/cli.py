"""The `lathe` command, which comes with the package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lathe.errors import Error, SpecError, UnavailableError

__all__ = ["main", "program", "run"]

_REFUSED = 2  # exit code of the command for input that it does not take


def program() -> str:
    """Path of the `lathe` command.

    Raises
    ------
    UnavailableError
        The package does not have it.
    """
    path = Path(__file__).parent / "bin" / "lathe"
    if not os.access(path, os.X_OK):
        raise UnavailableError(
            "is not there, or is no program", where=str(path), hint="install the package anew", code="unavailable"
        )
    return str(path)


def run(arguments: Sequence[str], *, stdin: str = "") -> str:
    """Runs the command and returns what it prints.

    Parameters
    ----------
    arguments : sequence of str
        As in a shell, without the command's own name: ``["cache", "ls"]`` (docs/cli.md).
    stdin : str
        What the command reads from its standard input.

    Returns
    -------
    str
        Its standard output.

    Raises
    ------
    SpecError
        The command refused its input.
    UnavailableError
        The package does not have the command.
    Error
        It failed.
    """
    done = subprocess.run([program(), *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    where = "lathe " + " ".join(arguments[:1])
    message = done.stderr.strip() or f"ended with exit code {done.returncode}"
    if done.returncode == _REFUSED:
        raise SpecError(message, where=where)
    raise Error(message, where=where)


def main() -> None:
    """Becomes the command, with the arguments of this process; ``lathe compat`` is a part of the package itself."""
    if sys.argv[1:2] == ["compat"]:
        from lathe.compat import peer_tests

        try:
            sys.exit(peer_tests.main(sys.argv[2:]))
        except Error as error:
            print(f"lathe compat: {error}", file=sys.stderr)
            sys.exit(_REFUSED)
    path = program()
    os.execv(path, [path, *sys.argv[1:]])
