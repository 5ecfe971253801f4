"""Layouts of chosen keys against softmax over the lists, in numpy's fp64."""

import lathe
import lathe.expr as le
import numpy as np
import pytest
from lathe.errors import SpecError
from reference import attend, worst

BOUND = 2e-3
TOKENS, KEYS, HEADS, GROUP, DIM = 13, 60, 2, 3, 64


def draw(rng, keys=KEYS):
    q = rng.standard_normal((TOKENS, HEADS * GROUP, DIM)).astype(np.float16)
    k, v = (rng.standard_normal((keys, HEADS, DIM)).astype(np.float16) for _ in range(2))
    return q, k, v


def expected(q, k, v, chosen):
    """`chosen(token, head)` are the keys that a row of a kv head sees, as often as they stand there."""
    o, lse = np.zeros(q.shape), np.zeros(q.shape[:2])
    for token in range(q.shape[0]):
        for head in range(k.shape[1]):
            keys, rows = list(chosen(token, head)), slice(head * GROUP, (head + 1) * GROUP)
            one = q[token : token + 1, rows], k[keys, head : head + 1], v[keys, head : head + 1]
            o[token, rows], lse[token, rows] = (x[0] for x in attend(*one))
    return o, lse


def right(got, wanted):
    (o, lse), (wanted_o, wanted_lse) = got, wanted
    assert o.shape == wanted_o.shape and worst(o, wanted_o) < BOUND
    same = lse == wanted_lse  # rows without keys
    assert np.max(np.where(same, 0, np.abs(np.where(same, 0, lse) - np.where(same, 0, wanted_lse)))) < 1e-3


def matrix(rng, block_rows, block_columns):
    indptr, indices = [0], []
    for row in range(-(-TOKENS // block_rows)):
        indices += rng.permutation(KEYS // block_columns)[: 0 if row == 1 else 3].tolist()
        indptr.append(len(indices))
    return indptr, indices


@pytest.mark.parametrize(("block_rows", "block_columns"), [(4, 5), (1, 1), (16, 20)])
def test_block_sparse(rng, block_rows, block_columns):
    q, k, v = draw(rng)
    indptr, indices = matrix(rng, block_rows, block_columns)
    layout = lathe.block_sparse(
        indptr, np.array(indices), rows=TOKENS, columns=KEYS, block_rows=block_rows, block_columns=block_columns, num_kv_heads=HEADS
    )

    def chosen(token, _):
        row = token // block_rows
        return [i * block_columns + j for i in indices[indptr[row] : indptr[row + 1]] for j in range(block_columns)]

    right(lathe.attention(q, k, v, layout=layout, lse="ln"), expected(q, k, v, chosen))
    assert (layout.tokens, layout.keys, layout.num_kv_heads, layout.page_size) == (TOKENS, KEYS, HEADS, block_columns)
    assert layout.kv_indices.tolist() == indices and "13 rows, 60 keys" in repr(layout)


QO_INDPTR = [0, 3, 3, 4, 13]


@pytest.mark.parametrize("scope", ["request", "query"])
@pytest.mark.parametrize("per_kv_head", [False, True])
def test_gather(rng, scope, per_kv_head):
    q, k, v = draw(rng)
    count = TOKENS if scope == "query" else 4
    indices = rng.integers(0, KEYS, (count, HEADS, 20) if per_kv_head else (count, 20))  # keys come again
    indices[rng.random(indices.shape) < 0.3] = -1
    indices[2] = -7
    layout = lathe.gather(indices, num_keys=KEYS, num_kv_heads=HEADS, qo_indptr=QO_INDPTR, scope=scope)

    def chosen(token, head):
        listed = indices[token if scope == "query" else np.searchsorted(QO_INDPTR, token, "right") - 1]
        listed = listed[head] if per_kv_head else listed
        return listed[listed >= 0]

    wanted = expected(q, k, v, chosen)
    right(lathe.attention(q, k, v, layout=layout, lse="ln"), wanted)
    if scope == "query":
        right(
            lathe.attention(q, k, v, layout=lathe.gather(indices, num_keys=KEYS, num_kv_heads=HEADS, scope=scope), lse="ln"), wanted
        )
    # One plan for every layer.
    spec = lathe.AttentionSpec(
        q_dtype="f16", o_dtype="f16", group_size=GROUP, head_dim_qk=DIM, head_dim_vo=DIM, lse="ln", layout=layout.spec_layout
    )
    kernel = lathe.Attention(spec)
    plan = kernel.plan_layout(layout)
    assert plan.qo_tokens == TOKENS
    out, lse = np.empty(q.shape, np.float16), np.empty(q.shape[:2], np.float32)
    kernel.run(q, k, v, plan, out=out, lse=lse)
    right((out, lse), wanted)
    # Wrong keys are seen to be wrong.
    assert worst(out, expected(q, k, v, lambda token, head: [*chosen(token, head), 0])[0]) > 5 * BOUND


def test_hooks_and_codes(rng):
    """Bits that hide elements of blocks, sinks of heads, values as codes with scales of keys."""
    q, k, _ = draw(rng)
    codes = np.clip(np.round(40 * rng.standard_normal((KEYS, HEADS, DIM))), -128, 127).astype(np.int8)
    scales = rng.uniform(0.01, 0.03, (KEYS, HEADS)).astype(np.float32)
    bits = rng.integers(0, 2**32, (TOKENS, 2), np.uint32)
    indptr, indices = matrix(rng, 4, 5)
    layout = lathe.block_sparse(indptr, indices, rows=TOKENS, columns=KEYS, block_rows=4, block_columns=5, num_kv_heads=HEADS)
    words = le.tensor("words", "u32", ["TOK", 2])
    o = lathe.attention(
        q,
        k,
        codes,
        layout=layout,
        mask=lambda tok, slot: le.bit(words[tok, le.clamp(slot >> 5, 0, 1)], slot & 31),
        tensors={"words": bits},
        vfmt="i8",
        vscale="token",
        v_scales={"token_scale": scales},
    )

    def chosen(token, _):
        listed = (i * 5 + j for i in indices[indptr[token // 4] : indptr[token // 4 + 1]] for j in range(5))
        return [key for key in listed if bits[token, key // 32] >> np.uint32(key % 32) & np.uint32(1)]

    assert worst(o, expected(q, k, codes * scales[..., None].astype(np.float64), chosen)[0]) < BOUND


def test_torch_tensors_of_the_host(rng):
    torch = pytest.importorskip("torch")
    q, k, v = draw(rng)
    indices = torch.randint(0, KEYS, (TOKENS, 9), dtype=torch.int64, device="cpu")
    layout = lathe.gather(indices, num_keys=KEYS, num_kv_heads=HEADS, scope="query")
    o = lathe.attention(*(torch.from_numpy(x) for x in (q, k, v)), layout=layout)
    assert worst(np.asarray(o), expected(q, k, v, lambda token, _: indices[token].tolist())[0]) < BOUND


def refused(call, where, *words):
    with pytest.raises(SpecError) as caught:
        call()
    assert any(line.strip().startswith(where) for line in str(caught.value).splitlines()), caught.value
    for word in words:
        assert word in str(caught.value)


def test_block_sparse_refuses():
    good = dict(indptr=[0, 2, 3], indices=[0, 2, 1], rows=20, columns=48, block_rows=16, block_columns=16, num_kv_heads=2)
    lathe.block_sparse(**good)

    def bad(where, *words, **given):
        refused(lambda: lathe.block_sparse(**{**good, **given}), where, *words)

    bad("indptr[2]", "is 1, less than the one before", indptr=[0, 2, 1])
    bad("indptr", "has 2 entries, must have 3", indptr=[0, 3])
    bad("indptr", "whole numbers", indptr=[0.0, 2.0, 3.0])
    bad("indices[1]", "is 3, must be in 0..2", indices=[0, 3, 1])
    bad("indices[1]", "is 0 again in block row 0", indices=[0, 0, 1])
    bad("indices", "has 2 dimensions; allowed: 1", indices=[[0, 2, 1]])
    bad("columns", "is 50, must be a multiple of block_columns 16", columns=50)
    bad("block_rows", "is 0, must be in 1..", block_rows=0)
    bad("rows", "is '20'; allowed: a whole number", rows="20")
    bad("num_kv_heads", "is 0, must be in 1..", num_kv_heads=0)


def test_gather_refuses():
    good = dict(indices=[[0, 5], [-1, 2]], num_keys=6, num_kv_heads=2, qo_indptr=[0, 1, 3])
    lathe.gather(**good)

    def bad(where, *words, **given):
        refused(lambda: lathe.gather(**{**good, **given}), where, *words)

    bad("indices[1]", "is 5, must be below 5", num_keys=5)
    bad("indices", "has 4 entries, must have 3 lists of 2", scope="query")
    bad("indices", "has 1 dimensions; allowed: 2, or 3", indices=[0, 5])
    bad("indices", "lists of several lengths", "-1", indices=[[0, 5], [2]])
    bad("indices", "has shape [2, 1, 2]; allowed: [lists, 2 kv heads, width]", indices=[[[0, 5]], [[1, 2]]])
    bad("indices", "whole numbers", indices=[[0.5, 1], [1, 2]])
    bad("qo_indptr", "is None; allowed: [batch + 1] of int", qo_indptr=None)
    bad("qo_indptr[2]", "less than the one before", qo_indptr=[0, 3, 1])
    bad("scope", "is 'row'; allowed: 'request', 'query'", scope="row")
    bad("num_keys", "is 2147483648; allowed: a number of 32 bits", num_keys=2**31)


def test_attention_refuses(rng):
    q, k, v = draw(rng)
    layout = lathe.gather(rng.integers(0, KEYS, (TOKENS, HEADS, 9)), num_keys=KEYS, num_kv_heads=HEADS, scope="query")
    compiles = lathe.stats()["compiles"]

    def bad(where, *words, arrays=(q, k, v), **given):
        refused(lambda: lathe.attention(*arrays, **{"layout": layout, **given}), where, *words)

    bad("layout", "is a list; allowed: a lathe.SparseLayout", layout=[0, 1])
    bad("qo_indptr", "is given, and so is a layout", qo_indptr=[0, TOKENS])
    bad("block_table", "is given, and so is a layout", block_table=[[0]])
    bad("window", "is given, and so is a layout", window=4)
    bad("order", "is 'HND'; allowed: 'NHD'", order="HND")
    bad("q", "has 12 rows; allowed: 13", arrays=(q[:-1], k, v))
    bad("k", "has 59 rows; allowed: 60", arrays=(q, k[:-1], v[:-1]))
    bad("k", "has 1 heads; allowed: 2", arrays=(q, k[:, :1], v[:, :1]))
    bad("v", "is None", arrays=(q, k, None))
    assert lathe.stats()["compiles"] == compiles
    bad("mask", "must be none", mask="causal")
    bad("hooks", "ask for h, which is another where each kv head", sink=lambda h: le.f32(h))
    bad(
        "kscale",
        "must be none",
        "where each kv head has keys of its own",
        arrays=(q, k.astype(np.int8), v),
        kfmt="i8",
        kscale="token",
    )
    bad("v", "has 59 rows, the layout was made for 60", arrays=(q, k, v[:-1]))
    spec = lathe.AttentionSpec(q_dtype="f16", o_dtype="f16", group_size=GROUP, head_dim_qk=DIM, head_dim_vo=DIM)
    refused(lambda: lathe.Attention(spec).plan_layout(layout), "layout", "must be paged(1, NHD, csr)")
    kernel = lathe.Attention(spec.replace(layout=layout.spec_layout, lse="ln"))
    refused(lambda: kernel.plan_layout("layout"), "layout", "is a str; allowed: a lathe.SparseLayout")
    plan = kernel.plan_layout(layout)
    lse = np.empty((TOKENS, 2 * HEADS * GROUP), np.float32)[:, : HEADS * GROUP]
    refused(lambda: kernel.run(q, k, v, plan, lse=lse), "lse", "has strides 12 and 1")
