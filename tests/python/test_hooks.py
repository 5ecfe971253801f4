"""Variants written as Python functions, run on the host executor, against the same functions of numpy in fp64."""

import lathe
import lathe.expr as le
import numpy as np
import pytest
from reference import worst

ROWS, KEYS, HEADS, KV_HEADS, DIM = 9, 21, 4, 2, 64
W = le.param("W", "i32")
SLOPES = le.tensor("slopes", "f32", ["HQ"])
SINKS = le.tensor("sinks", "f32", ["HQ"])
START = le.tensor("start", "i32", ["TOK"])


def expected(q, k, v, mask=None, logits=None, sink=None, normalize=True, output=None):
    """Everything is [head, row, key]; functions get h, q_pos, kv_pos, tok, qsum and qnorm as arrays that broadcast to that."""
    k, v = (np.repeat(x.astype(np.float64), HEADS // KV_HEADS, axis=1) for x in (k, v))
    score = np.einsum("qhd,khd->hqk", q.astype(np.float64), k) * DIM**-0.5
    row = q.astype(np.float64).transpose(1, 0, 2)[..., None, :]
    names = {
        "qsum": row.sum(-1),
        "qnorm": np.sqrt((row * row).sum(-1)),
        "h": np.arange(HEADS)[:, None, None],
        "tok": np.arange(ROWS)[None, :, None],
        "q_pos": np.arange(ROWS)[None, :, None] + KEYS - ROWS,
        "kv_pos": np.arange(KEYS)[None, None, :],
    }
    visible = np.ones_like(score, bool) if mask is None else np.broadcast_to(mask(**names), score.shape)
    score = score if logits is None else logits(score, **names)
    if normalize:
        weight = np.where(visible, np.exp(score), 0)
        total = weight.sum(-1, keepdims=True) + (0 if sink is None else np.exp(sink)[:, None, None])
        weight = weight / total
    else:
        weight = np.where(visible, score, 0)
    return np.einsum("hqk,khd->qhd", weight, v)


CASES = {
    "window": (
        dict(mask=lambda q_pos, kv_pos: (kv_pos <= q_pos) & (q_pos - kv_pos < W), params={"W": 4}),
        dict(mask=lambda q_pos, kv_pos, **_: (kv_pos <= q_pos) & (q_pos - kv_pos < 4)),
    ),
    "ALiBi": (
        dict(logits=lambda score, h, q_pos, kv_pos: score + SLOPES[h] * le.f32(kv_pos - q_pos), tensors={"slopes": None}),
        dict(logits=lambda score, h, q_pos, kv_pos, **_: score + SLOPE_VALUES[h] * (kv_pos - q_pos)),
    ),
    "sink": (
        dict(
            mask=lambda q_pos, kv_pos: kv_pos <= q_pos,
            sink=lambda h: SINKS[h],
            tensors={"sinks": None},
        ),
        dict(mask=lambda q_pos, kv_pos, **_: kv_pos <= q_pos, sink=True),
    ),
    "documents": (
        dict(mask=lambda q_pos, kv_pos, tok: (START[tok] <= kv_pos) & (kv_pos <= q_pos), tensors={"start": None}),
        dict(mask=lambda q_pos, kv_pos, tok, **_: (START_VALUES[tok] <= kv_pos) & (kv_pos <= q_pos)),
    ),
    "norm and sum of the query": (
        dict(logits=lambda score, qnorm, qsum, kv_pos: 8 * score / le.max(qnorm, 1e-6) + 0.25 * qsum * le.f32(kv_pos % 3)),
        dict(logits=lambda score, qnorm, qsum, kv_pos, **_: 8 * score / qnorm + 0.25 * qsum * (kv_pos % 3)),
    ),
    "sigmoid": (
        dict(logits=lambda score: le.sigmoid(score - le.param("bias", "f32")), normalizer="none", params={"bias": 1.5}),
        dict(logits=lambda score, **_: 1 / (1 + np.exp(1.5 - score)), normalize=False),
    ),
}
SLOPE_VALUES = np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
SINK_VALUES = np.array([2.0, -1.0, 0.5, 3.0], np.float32)
START_VALUES = np.array([0, 0, 5, 5, 5, 13, 13, 14, 14], np.int32)
VALUES = {"slopes": SLOPE_VALUES, "sinks": SINK_VALUES, "start": START_VALUES}


def draw(rng):
    return tuple(rng.standard_normal(shape).astype(np.float16) for shape in [(ROWS, HEADS, DIM)] + 2 * [(KEYS, KV_HEADS, DIM)])


@pytest.mark.parametrize("name", CASES)
def test_variant(rng, name):
    given, numpy = (dict(side) for side in CASES[name])
    given["tensors"] = {name: VALUES[name] for name in given.get("tensors", {})}
    if numpy.get("sink"):
        numpy["sink"] = SINK_VALUES.astype(np.float64)
    q, k, v = draw(rng)
    got = lathe.attention(q, k, v, **given)
    assert worst(got, expected(q, k, v, **numpy)) < 3e-3
    # Without the hook the result is another.
    assert worst(got, expected(q, k, v)) > 0.03


def test_other_values_need_no_other_kernel(rng):
    q, k, v = draw(rng)
    mask = CASES["window"][0]["mask"]
    lathe.attention(q, k, v, mask=mask, params={"W": 3})
    compiles = lathe.stats()["compiles"]
    for width in (1, 2, 20):
        got = lathe.attention(q, k, v, mask=mask, params={"W": width})
        wanted = expected(q, k, v, mask=lambda q_pos, kv_pos, n=width, **_: (kv_pos <= q_pos) & (q_pos - kv_pos < n))
        assert worst(got, wanted) < 3e-3
    assert lathe.stats()["compiles"] == compiles


def test_specs_take_hooks(rng):
    hooks = le.hooks(mask=CASES["window"][0]["mask"])
    by_object = lathe.AttentionSpec(hooks=hooks, layout="ragged")
    by_text = lathe.AttentionSpec(hooks="param V:i32; mask = q_pos >= kv_pos && q_pos < kv_pos + V", layout="ragged")
    assert by_object.canonical_bytes() == by_text.canonical_bytes() != by_text.replace(hooks="").canonical_bytes()
    assert lathe.AttentionSpec.from_json(by_object.to_json()) == by_object and by_object.hooks
    q, k, v = draw(rng)
    kernel = lathe.Attention(
        by_object.replace(q_dtype="f16", kfmt="f16", vfmt="f16", o_dtype="f16", group_size=2, head_dim_qk=64, head_dim_vo=64)
    )
    plan = kernel.plan(num_kv_heads=2, qo_indptr=[0, ROWS], kv_indptr=[0, KEYS], params={"W": 4})
    got = kernel.run(q, k, v, plan)
    assert worst(got, expected(q, k, v, **CASES["window"][1])) < 3e-3


def refused(match, rng, **given):
    q, k, v = draw(rng)
    with pytest.raises(lathe.SpecError, match=match):
        lathe.attention(q, k, v, **given)


def test_refusals(rng):
    window = CASES["window"][0]["mask"]
    refused(r"W", rng, mask=window)
    refused(r"has V, which the hooks do not declare; allowed: W", rng, mask=window, params={"W": 3, "V": 3})
    refused(r"W.*2\.5", rng, mask=window, params={"W": 2.5})
    refused(r"param W: is '3'; allowed: a number", rng, mask=window, params={"W": "3"})
    alibi = CASES["ALiBi"][0]["logits"]
    refused(r"slopes", rng, logits=alibi)
    refused(r"slopes: has elements of float64; allowed: f32", rng, logits=alibi, tensors={"slopes": np.ones(4)})
    refused(r"slopes.*3", rng, logits=alibi, tensors={"slopes": np.ones(3, np.float32)})
    refused(r"slopes: is a list; allowed: a numpy array", rng, logits=alibi, tensors={"slopes": [1, 2]})
    refused(r"hooks: is given, and so are functions", rng, logits=alibi, hooks="")
    refused(r"mask: has a parameter 'score'", rng, mask=lambda score: score > 0)
