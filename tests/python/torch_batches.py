"""Batches of tensors for the operators, and what comes of them."""

import itertools

import lathe
import lathe.torch as lt
import numpy as np
import torch
from devices import DEVICE
from reference import attend_batch, worst

SPEC = lathe.AttentionSpec(
    q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged", mask="causal"
)
BOUNDS = lt.Bounds(num_kv_heads=2, max_batch=4, max_qo_tokens=24, max_kv_entries=120)


def draw(rng, *shape, dtype=torch.float16):
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).to(DEVICE, dtype)


def i32(*numbers):
    """Lengths, which are read on the host."""
    return torch.tensor(numbers, dtype=torch.int32, device="cpu")


def host(x):
    """As numpy has it."""
    return x.float().cpu().numpy()


def batch_of(rng, qo_lens, kv_lens):
    qo, kv = np.cumsum([0, *qo_lens]), np.cumsum([0, *kv_lens])
    return i32(*qo), i32(*kv)


def expected_of(q, k, v, qo, kv, **options):
    keys = [host(k[a:b]) for a, b in itertools.pairwise(kv.tolist())]
    values = [host(v[a:b]) for a, b in itertools.pairwise(kv.tolist())]
    return attend_batch(host(q), keys, values, qo.tolist(), **options)


def step(rng, envelope, qo_lens, kv_lens, on_device, run=None):
    """One batch through an envelope, compared with the reference."""
    qo, kv = batch_of(rng, qo_lens, kv_lens)
    q, k, v = draw(rng, 24, 4, 64), draw(rng, 120, 2, 64), draw(rng, 120, 2, 64)
    out = torch.full_like(q, 7)
    if on_device:
        envelope.plan_on_device(qo_indptr=qo.to(DEVICE), kv_indptr=kv.to(DEVICE))
    else:
        envelope.plan(qo_indptr=qo, kv_indptr=kv)
    (run or envelope.run)(q, k, v, out)
    rows = int(qo[-1])
    expected, _ = expected_of(q[:rows], k, v, qo, kv, mask="causal")
    assert worst(host(out[:rows]), expected) < 2e-3
    assert (out[rows:] == 7).all()
