"""Lengths and what else lies on the host, in programs that make tensors elsewhere unless told."""

import ast
import pathlib
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "python" / "lathe"

# What runs before any import of Lathe, and a call of each kind. Tensors are given on the CPU.
PROGRAM = """
import torch

{before}

def i32(*numbers):
    return torch.tensor(numbers, dtype=torch.int32, device="cpu")

def draw(*shape):
    return torch.ones(shape, dtype=torch.float16, device="cpu")

import lathe
import lathe.torch as lt
import lathe.compat.flashinfer as flashinfer

q, kv, pages = draw(4, 4, 64), draw(6, 2, 64), draw(2, 16, 2, 64)
one = dict(qo_indptr=i32(0, 4), kv_indptr=i32(0, 6))
for given in (one, {{name: value.tolist() for name, value in one.items()}}):
    assert torch.equal(lt.attention(q, kv, kv, **given), q)
csr = dict(kv_indptr=[0, 1], kv_indices=i32(1), last_page_len=[6])
assert torch.equal(lt.attention(q, pages, pages, qo_indptr=[0, 4], **csr), q)

spec = lathe.AttentionSpec(q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged")
assert torch.equal(lt.attention_into(spec.to_json(), q, kv, kv, torch.zeros_like(q), **one), q)
envelope = lt.Envelope(spec, lt.Bounds(num_kv_heads=2, max_batch=1, max_qo_tokens=4, max_kv_entries=6))
for plan in (envelope.plan, envelope.plan_on_device):
    plan(**one)
    assert torch.equal(envelope.run(q, kv, kv, torch.zeros_like(q)), q)
caches = pages.clone(), pages.clone()
lt.append(2 * kv, 3 * kv, *caches, slot_mapping=torch.arange(6, device="cpu"))
assert (caches[0][0, :6] == 2).all() and (caches[1][0, :6] == 3).all()

mask = torch.ones(24, dtype=torch.bool, device="cpu")
assert torch.equal(flashinfer.single_prefill_with_kv_cache(q, kv, kv, custom_mask=mask.reshape(4, 6)), q)
memory = torch.empty(0, dtype=torch.uint8, device="cpu")
ragged = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(memory)
ragged.plan(*one.values(), 4, 2, 64, custom_mask=mask)
assert torch.equal(ragged.run(q, kv, kv), q)
paged = flashinfer.BatchDecodeWithPagedKVCacheWrapper(memory)
paged.plan(i32(0, 1), i32(1), i32(6), 4, 2, 64, 16)
assert torch.equal(paged.run(q[:1], (pages, pages)), q[:1])
tokens = pages.reshape(32, 1, 2, 64)
flashinfer.fast_decode_plan(paged, i32(0, 1), i32(1), i32(1), 4, 2, 64, 1, "NONE", q_data_type=torch.float16)
assert torch.equal(paged.run(q[:1], (tokens, tokens)), q[:1])

{more}
"""

MASKS = """
from lathe.frontends import masks
from lathe.frontends.transformers import attention

layer = torch.nn.Module()
layer.is_causal = True
x = draw(1, 2, 4, 64)
o, _ = attention(layer, x, x, x, None, is_causal=True)
assert (o == 1).all()
runs = masks.runs_of(torch.zeros(1, 0, 0, dtype=torch.bool, device="cpu"))
assert runs.qo_indptr.device == runs.kv_indices.device == runs.last_page_len.device == torch.device("cpu")
"""


@pytest.mark.parametrize("before", ['torch.set_default_device("meta")', 'torch.device("meta").__enter__()'])
def test_another_default_device(before):
    try:
        import transformers  # noqa: F401
    except ImportError:
        more = ""
    else:
        more = MASKS
    program = PROGRAM.format(before=before, more=more)
    done = subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MAKERS = {"arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "tensor", "zeros"}


def test_every_tensor_is_made_somewhere():
    """A call that names no device makes its tensor wherever the program has said."""
    calls = [
        (f"{path.name}:{node.lineno}", {keyword.arg for keyword in node.keywords})
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MAKERS
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
    ]
    assert len(calls) > 20
    assert not [where for where, keywords in calls if "device" not in keywords]
