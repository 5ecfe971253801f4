"""Operators whose kernel is missing while a graph is captured, which a device of the tests says where there is no GPU."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402

NULL_EXECUTOR = pathlib.Path(lt.library()).with_name("liblathe_null_executor.so")

PROGRAM = """
import ctypes, os, re, sys, torch

ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)  # before the operators: its host device is then theirs

import lathe
import lathe.torch as lt

q, kv, pages = torch.zeros(4, 4, 64).half(), torch.zeros(6, 2, 64).half(), torch.zeros(2, 2, 16, 2, 64).half()
lens = dict(qo_indptr=torch.tensor([0, 4]).int(), kv_indptr=torch.tensor([0, 6]).int())
fields = dict(q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged")
spec = lathe.AttentionSpec(mask="causal", **fields)
other = spec.replace(mask="none", lse="log2")
bounds = lt.Bounds(num_kv_heads=2, max_batch=1, max_qo_tokens=4, max_kv_entries=6)
slots = torch.arange(6)


def into(spec):
    lse = None if spec.lse == "none" else torch.zeros(4, 4)
    lt.attention_into(spec.to_json(), q, kv, kv, q.clone(), lse, **lens)


into(spec)
envelope = lt.Envelope(spec, bounds)
envelope.plan(**lens)
os.environ["NULL_EXECUTOR_CAPTURES"] = "1"
into(spec)  # its kernel is there
envelope.run(q, kv, kv, q.clone())
for call, names in (
    (lambda: into(other), ['"op":"attention"', '"mask":"none"', '"lse":"log2"', '"head_dim_qk":64']),
    (lambda: lt.Envelope(other, bounds), ['"op":"attention"', '"mask":"none"', '"lse":"log2"']),
    (lambda: lt.append(kv, kv, *pages, slot_mapping=slots), ['"op": "append"', '"kfmt": "f16"', '"place": "slots"']),
):
    try:
        call()
    except RuntimeError as error:
        text = str(error)
        said = r"spec: .* has no kernel yet, and none can be loaded while a graph is captured"
        assert re.search(said + ".*run the operator once before the capture", text), text
        assert all(name in text for name in names), text
    else:
        raise AssertionError("was not refused")
del os.environ["NULL_EXECUTOR_CAPTURES"]
into(other)
lt.append(kv, kv, *pages, slot_mapping=slots)
os.environ["NULL_EXECUTOR_CAPTURES"] = "1"
into(other)
lt.append(kv, kv, *pages, slot_mapping=slots)
"""


@pytest.mark.skipif(not NULL_EXECUTOR.is_file(), reason="the null executor is part of the build tree alone")
def test_a_kernel_that_is_missing():
    done = subprocess.run([sys.executable, "-B", "-c", PROGRAM, NULL_EXECUTOR], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
