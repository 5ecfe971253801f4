"""Keys and values as codes of 8 bits, against numpy in fp64."""

import lathe
import lathe.expr as le
import ml_dtypes
import numpy as np
import pytest
from lathe.errors import SpecError
from reference import attend_batch, worst

BOUND = 1.2e-2
KV = [300, 41]
QO = [1, 7]
HEADS, DIM = 2, 64


def draw(rng):
    q = rng.standard_normal((sum(QO), 4, DIM)).astype(ml_dtypes.bfloat16)
    k = (20 * rng.standard_normal((sum(KV), HEADS, DIM))).astype(ml_dtypes.float8_e4m3fn)
    v = np.clip(np.round(30 * rng.standard_normal((sum(KV), HEADS, DIM)) + 20), -128, 127).astype(np.int8)
    k_scales = {"scale": 0.05, "channel_scale": np.exp2(rng.integers(-1, 2, (HEADS, DIM))).astype(np.float32)}
    v_scales = {
        "scale": 0.03,
        "token_scale": rng.uniform(0.5, 2, (sum(KV), HEADS)).astype(np.float32),
        "zero": rng.uniform(10, 30, (sum(KV), HEADS)).astype(np.float32),
    }
    return q, k, v, k_scales, v_scales


FIELDS = {"kfmt": "e4m3", "kscale": "channel", "vfmt": "i8", "vscale": "token", "vzero": "token"}


def meaning(k, v, k_scales, v_scales):
    keys = k.astype(np.float64) * k_scales["scale"] * k_scales["channel_scale"]
    return keys, (v - v_scales["zero"][..., None].astype(np.float64)) * v_scales["scale"] * v_scales["token_scale"][..., None]


def test_hooks_see_what_codes_stand_for(rng):
    q, k, v, k_scales, v_scales = draw(rng)
    o = lathe.attention(
        *(q, k, v),
        kv_indptr=[0, sum(KV)],
        key=lambda x: le.min(x, 0.5),
        value=lambda x: x * abs(x),
        k_scales=k_scales,
        v_scales=v_scales,
        **FIELDS,
    )
    keys, values = meaning(k, v, k_scales, v_scales)
    expected, _ = attend_batch(q, [np.minimum(keys, 0.5)], [values * np.abs(values)], [0, sum(QO)])
    assert worst(o, expected) < BOUND
    without, _ = attend_batch(q, [keys], [values * np.abs(values)], [0, sum(QO)])
    assert worst(o, without) > 5 * BOUND


def test_ragged(rng):
    q, k, v, k_scales, v_scales = draw(rng)
    kv_indptr, qo_indptr = np.cumsum([0, *KV]), np.cumsum([0, *QO])
    o = lathe.attention(
        q, k, v, qo_indptr=qo_indptr, kv_indptr=kv_indptr, mask="causal", k_scales=k_scales, v_scales=v_scales, **FIELDS
    )
    keys, values = meaning(k, v, k_scales, v_scales)
    parts = list(zip(kv_indptr, kv_indptr[1:], strict=False))
    expected, _ = attend_batch(q, [keys[a:b] for a, b in parts], [values[a:b] for a, b in parts], qo_indptr, mask="causal")
    assert worst(o, expected) < BOUND
    without, _ = attend_batch(q, [keys[a:b] for a, b in parts], [v[a:b] * 0.03 for a, b in parts], qo_indptr, mask="causal")
    assert worst(o, without) > 5 * BOUND


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k_scales": {"scale": 0.05}}, ["k_scales.channel_scale", "must have 2"]),
        ({"k_scales": {"scale": -1.0}}, ["k_scales.scale", "-1.0", "finite and > 0"]),
        ({"v_scales": {"zeros": 1}}, ["v_scales", "has zeros", "token_scale, channel_scale, zero"]),
        ({"v_scales": {"token_scale": np.ones((341, 2))}}, ["v_scales.token_scale", "float64", "f32"]),
        ({"kzero": "token"}, ["kzero", "kfmt is e4m3", "i8"]),
    ],
)
def test_refusals(rng, change, words):
    q, k, v, k_scales, v_scales = draw(rng)
    arguments = {"k_scales": k_scales, "v_scales": v_scales, "kv_indptr": np.cumsum([0, *KV]), "qo_indptr": np.cumsum([0, *QO])}
    with pytest.raises(SpecError) as refusal:
        lathe.attention(q, k, v, **{**arguments, **FIELDS, **change})
    for word in words:
        assert word in str(refusal.value)
