"""lathe.attention and the plan/run pair against numpy in fp64."""

import threading

import lathe
import ml_dtypes
import numpy as np
import pytest
from reference import attend_batch, worst

BOUND = {np.dtype(np.float16): 2e-3, np.dtype(ml_dtypes.bfloat16): 1.2e-2}
# Kernels that several tests share, so that few are compiled.
HEADS = dict(qo=4, kv=2)


def draw(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def ragged(rng, dtype, qo_lens, kv_lens, dim=64, dim_vo=64):
    qo_indptr, kv_indptr = np.cumsum([0, *qo_lens]), np.cumsum([0, *kv_lens])
    q = draw(rng, (qo_indptr[-1], HEADS["qo"], dim), dtype)
    k = draw(rng, (kv_indptr[-1], HEADS["kv"], dim), dtype)
    v = draw(rng, (kv_indptr[-1], HEADS["kv"], dim_vo), dtype)
    split = [(k[a:b], v[a:b]) for a, b in zip(kv_indptr, kv_indptr[1:], strict=False)]
    return q, k, v, qo_indptr, kv_indptr, [s[0] for s in split], [s[1] for s in split]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {"mask": "causal"},
        {"mask": "causal_window", "window": 5, "soft_cap": 3.0, "sm_scale": 0.3},
    ],
)
def test_ragged(rng, dtype, options):
    q, k, v, qo_indptr, kv_indptr, keys, values = ragged(rng, dtype, [1, 7, 0, 33], [40, 7, 5, 90])
    o, lse = lathe.attention(q, k, v, qo_indptr=qo_indptr, kv_indptr=kv_indptr, lse="ln", **options)
    expected, expected_lse = attend_batch(q, keys, values, qo_indptr, **options)
    assert o.dtype == dtype and lse.dtype == np.float32
    assert worst(o, expected) < BOUND[o.dtype]
    assert np.max(np.abs(lse - expected_lse)) < 1e-3
    # The reference tells a wrong window from the right one.
    if "window" in options:
        wrong, _ = attend_batch(q, keys, values, qo_indptr, **{**options, "window": options["window"] + 1})
        assert worst(o, wrong) > 5 * BOUND[o.dtype]


def test_one_request_without_indptr(rng):
    q, k, v, *_ = ragged(rng, np.float16, [6], [11])
    o = lathe.attention(q, k, v)
    assert worst(o, attend_batch(q, [k], [v], [0, 6])[0]) < BOUND[o.dtype]


def test_rows_without_keys_are_zero(rng):
    q, k, v, qo_indptr, kv_indptr, *_ = ragged(rng, np.float16, [2, 3], [0, 4])
    o, lse = lathe.attention(q, k, v, qo_indptr=qo_indptr, kv_indptr=kv_indptr, lse="ln", mask="causal")
    assert not o[:2].any() and np.isneginf(lse[:2]).all() and o[2:].any()


def pages_of(rng, dtype, kv_lens, page_size, dim, order="NHD", spare=3):
    """Keys and values scattered over pages; what no request uses is NaN."""
    counts = [-(-n // page_size) for n in kv_lens]
    ids = rng.permutation(sum(counts) + spare)[: sum(counts)].astype(np.int32)
    shape = (sum(counts) + spare, page_size, HEADS["kv"], dim)
    k_pages, v_pages = (np.full(shape, np.nan).astype(dtype) for _ in range(2))
    keys, values, at = [], [], 0
    for n, count in zip(kv_lens, counts, strict=True):
        keys.append(draw(rng, (n, HEADS["kv"], dim), dtype))
        values.append(draw(rng, (n, HEADS["kv"], dim), dtype))
        for token in range(n):
            page = ids[at + token // page_size]
            k_pages[page, token % page_size] = keys[-1][token]
            v_pages[page, token % page_size] = values[-1][token]
        at += count
    if order == "HND":
        k_pages, v_pages = (np.ascontiguousarray(p.transpose(0, 2, 1, 3)) for p in (k_pages, v_pages))
    return k_pages, v_pages, ids, np.cumsum([0, *counts]), keys, values


def test_paged_csr(rng):
    qo_lens, kv_lens, size = [1, 4, 2], [37, 64, 3], 16
    k, v, ids, kv_indptr, keys, values = pages_of(rng, np.float16, kv_lens, size, 64)
    qo_indptr = np.cumsum([0, *qo_lens])
    q = draw(rng, (qo_indptr[-1], HEADS["qo"], 64), np.float16)
    last = [(n - 1) % size + 1 for n in kv_lens]
    o = lathe.attention(q, k, v, qo_indptr=qo_indptr, kv_indptr=kv_indptr, kv_indices=ids, last_page_len=last, mask="causal")
    expected, _ = attend_batch(q, keys, values, qo_indptr, mask="causal")
    assert worst(o, expected) < BOUND[o.dtype]


def test_paged_table_hnd_joint(rng):
    kv_lens, size = [9, 20], 8
    k, v, ids, kv_indptr, keys, values = pages_of(rng, ml_dtypes.bfloat16, kv_lens, size, 64, order="HND")
    table = np.zeros((2, 3), np.int64)  # any whole numbers that fit
    for b in range(2):
        mine = ids[kv_indptr[b] : kv_indptr[b + 1]]
        table[b, : len(mine)] = mine
    q = draw(rng, (2, HEADS["qo"], 64), ml_dtypes.bfloat16)
    kv = np.stack([k, v], axis=1)
    o = lathe.attention(q, kv, qo_indptr=[0, 1, 2], block_table=table, seq_lens=kv_lens, order="HND")
    assert worst(o, attend_batch(q, keys, values, [0, 1, 2])[0]) < BOUND[o.dtype]


def test_bits_as_uint16(rng):
    q, k, v, *_ = ragged(rng, ml_dtypes.bfloat16, [6], [11])
    bits = lathe.attention(q.view(np.uint16), k.view(np.uint16), v.view(np.uint16))
    assert bits.dtype == np.uint16
    assert (bits == lathe.attention(q, k, v).view(np.uint16)).all()


class Capsule:
    """An array of another library: nothing but DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_and_strides(rng):
    q, k, v, *_ = ragged(rng, np.float16, [6], [11])
    wide = np.zeros((6, HEADS["qo"] + 3, 64), np.float16)
    wide[:, 1 : 1 + HEADS["qo"]] = q
    o = lathe.attention(Capsule(wide[:, 1 : 1 + HEADS["qo"]]), Capsule(k), Capsule(v))
    assert (o == lathe.attention(q, k, v)).all()


def test_plan_and_run(rng):
    spec = lathe.AttentionSpec(
        q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged", mask="causal"
    )
    kernel = lathe.Attention(spec)
    assert kernel.origin in ("memory", "disk", "compiled") and kernel.tile["classes"]
    q, k, v, qo_indptr, kv_indptr, keys, values = ragged(rng, np.float16, [3, 1], [17, 30])
    plan = kernel.plan(num_kv_heads=2, qo_indptr=qo_indptr, kv_indptr=kv_indptr)
    assert (plan.batch, plan.qo_tokens) == (2, 4) and plan.workspace_bytes >= 256
    out = np.empty_like(q)
    assert kernel.run(q, k, v, plan, out=out) is out
    expected, _ = attend_batch(q, keys, values, qo_indptr, mask="causal")
    assert worst(out, expected) < BOUND[out.dtype]
    again = kernel.run(q, k, v, plan)
    assert (again == out).all()


def test_threads_share_a_plan(rng):
    q, k, v, qo_indptr, kv_indptr, *_ = ragged(rng, np.float16, [3, 1], [17, 300])
    spec = lathe.AttentionSpec(
        q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged", mask="causal"
    )
    kernel = lathe.Attention(spec)
    plan = kernel.plan(num_kv_heads=2, qo_indptr=qo_indptr, kv_indptr=kv_indptr)
    expected, results = kernel.run(q, k, v, plan), []
    threads = [threading.Thread(target=lambda: results.append(kernel.run(q, k, v, plan))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all((r == expected).all() for r in results)


def test_the_gil_is_released_while_a_kernel_runs(rng):
    q, k, v, *_ = ragged(rng, np.float16, [64], [3000])
    lathe.attention(q[:1], k[:1], v[:1])  # compiled now
    ticks, done = 0, threading.Event()

    def run():
        lathe.attention(q, k, v)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not done.wait(0.001):
        ticks += 1
    thread.join()
    assert ticks > 5


def test_checks_of_the_executor(rng):
    device = lathe.host_device(seed=7, check=True)
    spec = lathe.AttentionSpec(
        q_dtype="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64, layout="ragged", mask="causal"
    )
    q, k, v, *_ = ragged(rng, np.float16, [2], [5])
    kernel = lathe.Attention(spec, device)
    o = kernel.run(q, k, v, kernel.plan(num_kv_heads=2, qo_indptr=[0, 2], kv_indptr=[0, 5]))
    assert worst(o, attend_batch(q, [k], [v], [0, 2], mask="causal")[0]) < BOUND[o.dtype]
