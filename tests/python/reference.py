"""Attention in fp64, straight from its definition; nothing of lathe is used."""

from __future__ import annotations

import numpy as np


def attend(q, k, v, *, mask="none", window=None, sm_scale=None, soft_cap=None):
    """One request. q [rows, heads, dim], k and v [keys, kv_heads, dim]; gives o and the natural log-sum-exp."""
    rows, heads, dim = q.shape
    keys, kv_heads = k.shape[:2]
    k = np.repeat(k.astype(np.float64), heads // kv_heads, axis=1)
    v = np.repeat(v.astype(np.float64), heads // kv_heads, axis=1)
    score = np.einsum("qhd,khd->hqk", q.astype(np.float64), k) * (sm_scale or dim**-0.5)
    if soft_cap is not None:
        score = soft_cap * np.tanh(score / soft_cap)
    q_pos = np.arange(rows)[:, None] + keys - rows
    kv_pos = np.arange(keys)[None, :]
    visible = np.ones((rows, keys), bool)
    if mask in ("causal", "causal_window"):
        visible &= kv_pos <= q_pos
    if mask in ("window", "causal_window"):
        visible &= q_pos - kv_pos < window
    score = np.where(visible, score, -np.inf)
    most = np.max(score, axis=-1, keepdims=True, initial=-np.inf)
    weight = np.exp(score - np.where(np.isfinite(most), most, 0))
    total = weight.sum(-1, keepdims=True)
    o = np.einsum("hqk,khd->qhd", weight / np.where(total > 0, total, 1), v)
    with np.errstate(divide="ignore"):
        lse = (np.log(total) + most)[..., 0].T
    return o, lse


def attend_batch(q, keys, values, qo_indptr, **options):
    """Requests one after the other: keys and values are lists of [kv_len, kv_heads, dim]."""
    if len(qo_indptr) == 1:
        return np.zeros((0, *q.shape[1:])), np.zeros((0, q.shape[1]))
    pairs = [attend(q[a:b], k, v, **options) for a, b, k, v in zip(qo_indptr, qo_indptr[1:], keys, values, strict=False)]
    return np.concatenate([o for o, _ in pairs]), np.concatenate([lse for _, lse in pairs])


def worst(got, expected):
    """The largest error of an element, in units of the largest expected value."""
    return np.max(np.abs(got.astype(np.float64) - expected), initial=0) / max(np.max(np.abs(expected), initial=0), 1e-9)
