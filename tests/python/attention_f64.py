"""Attention of one request with PyTorch in fp64 on the CPU, straight from its definition; nothing of lathe is used."""

import math

import torch


def rotate(x, positions, scale, theta):
    """x [rows, heads, dim] with pairs (i, i + dim / 2) turned by position / scale * theta^(-2 i / dim)."""
    half = x.shape[-1] // 2
    rate = theta ** (-torch.arange(half, dtype=torch.float64, device="cpu") / half)
    angle = (positions.double()[:, None] / scale * rate)[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), dim=-1)


def slopes(heads):
    """ALiBi's slopes of a power of two of heads."""
    return torch.tensor([2.0 ** (-8.0 * (h + 1) / heads) for h in range(heads)], dtype=torch.float64, device="cpu")


def attend(q, k, v, *, causal=False, window=-1, mask=None, scale=None, cap=0.0, rope=None, alibi=False, sinks=None):
    """q [rows, heads, dim], k and v [keys, kv_heads, dim]; gives o and the log-sum-exp in base 2, [rows, heads]."""
    rows, heads, dim = q.shape
    keys, kv_heads = k.shape[:2]
    q, k, v = q.cpu().double(), k.cpu().double(), v.cpu().double()
    rows_at, of = torch.arange(rows, device="cpu"), torch.arange(keys, device="cpu")
    at = rows_at + keys - rows
    if rope is not None:
        q, k = rotate(q, at, *rope), rotate(k, of, *rope)
    k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    score = torch.einsum("qhd,khd->hqk", q, k) * (dim**-0.5 if scale is None else scale)
    if alibi:
        score = score + slopes(heads)[:, None, None] * (of[None, :] - rows_at[:, None])
    if cap:
        score = cap * torch.tanh(score / cap)
    seen = torch.ones(rows, keys, dtype=torch.bool, device="cpu")
    if causal:
        seen &= of[None, :] <= at[:, None]
    if window >= 0:
        seen &= of[None, :] >= at[:, None] - window
    if mask is not None:
        seen &= mask.cpu()
    score = score.masked_fill(~seen, -math.inf)
    logits = score if sinks is None else torch.cat((score, sinks.cpu().double()[:, None, None].expand(heads, rows, 1)), dim=-1)
    weight = logits.softmax(dim=-1).nan_to_num(0.0)[..., :keys]
    return torch.einsum("hqk,khd->qhd", weight, v), logits.logsumexp(dim=-1).T * math.log2(math.e)


def close(got, expected, tolerance):
    """Within `tolerance` of the largest expected value, infinities alike."""
    got, expected = got.cpu().double(), expected.cpu().double()
    assert got.shape == expected.shape
    same = got == expected
    error = torch.where(same, 0.0, (got - expected).abs()).nan_to_num(math.inf, math.inf)
    finite = expected[expected.isfinite()]
    most = max(float(finite.abs().max()) if finite.numel() else 0.0, 1e-6)
    assert float(error.max() if error.numel() else 0.0) <= tolerance * most, float(error.max()) / most
