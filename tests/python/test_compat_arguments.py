"""Every symbol of lathe.compat.flashinfer is called by the tests beside this one, with every argument that may be given.

They note their calls (compat_recorder.py), and ctest runs them before this.
"""

import json
import os
import pathlib

import compat_recorder
import pytest

pytest.importorskip("torch")
from compat_cases import REFUSED  # noqa: E402

NAMES = ("", "_buffers", "_cascade", "_function_refusals", "_items", "_pages", "_refusals")  # of files, after test_compat


def optional_arguments():
    """(symbol, parameter) of all that has a default; keywords that plan() hands on are those of _plan_impl."""
    for symbol, recorded in compat_recorder.SIGNATURES.items():
        for parameter in () if isinstance(recorded, str) else recorded:
            if "default" in parameter or parameter["kind"] == "VAR_POSITIONAL":
                yield symbol, parameter["name"]


@pytest.fixture(scope="module")
def records():
    """What all files noted, together."""
    if "COMPAT_RECORDS" not in os.environ:
        pytest.skip("the other files' records: ctest -R python.compat_arguments makes them")
    folder, found = pathlib.Path(os.environ["COMPAT_RECORDS"]), {}
    for name in NAMES:
        for key, entries in json.loads((folder / f"test_compat{name}.json").read_text()).items():
            found.setdefault(key, set()).update(tuple(entry) if isinstance(entry, list) else entry for entry in entries)
    return found


def shown(pairs):
    return "\n".join(": ".join(pair) for pair in sorted(pairs))


def test_every_symbol_is_called(records):
    missing = set(compat_recorder.SIGNATURES) - records["called"]
    assert not missing, f"no test gets a result from: {', '.join(sorted(missing))}"


def test_every_argument_is_given(records):
    missing = set(optional_arguments()) - records["served"] - REFUSED
    assert not missing, f"no test gives a value other than the default:\n{shown(missing)}"


def test_every_refusal_is_seen(records):
    """By its message, which names the argument, its value and what is allowed."""
    unseen = REFUSED - records["refused"]
    assert not unseen, f"no test sees the refusal of:\n{shown(unseen)}"
    wrong = REFUSED & records["served"]
    assert not wrong, f"listed as refused, but taken:\n{shown(wrong)}"
    assert set(optional_arguments()) >= REFUSED
