"""What a planned call through PyTorch costs, its launch left out."""

import json
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402

PROGRAM = pathlib.Path(__file__).with_name("torch_cost.py")
NULL_EXECUTOR = pathlib.Path(lt.library()).with_name("liblathe_null_executor.so")
MOST = 4.0  # of aten::add_ on one element in the same process (docs/pytorch.md); where the machine is busy, ratios vary by a tenth
CALLS = {"add_", "operator", "Envelope.run"}
TRIES = 3


@pytest.mark.skipif(not NULL_EXECUTOR.is_file(), reason="the null executor is part of the build tree alone")
def test_a_planned_call():
    for _ in range(TRIES):
        done = subprocess.run([sys.executable, "-B", PROGRAM, NULL_EXECUTOR], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        figures = json.loads(done.stdout)
        assert not figures["launched"] and figures["ratios"].keys() == CALLS
        print(figures)
        if max(figures["ratios"].values()) <= MOST:
            return
    pytest.fail(f"{figures['ratios']} of add_; allowed: {MOST}")
