"""Batches, pages and refusals that the tests of lathe.compat.flashinfer share."""

import itertools

import lathe
import pytest
import torch
from attention_f64 import attend
from devices import DEVICE, SHOWN

HEADS, KV_HEADS, DIM, PAGE = 4, 2, 64, 4
F8, BF = torch.float8_e4m3fn, torch.bfloat16
QO, KV = [3, 1, 4], [10, 4, 21]
# An option that is asked for, and what that means.
ROTARY, TURNED = dict(pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3), dict(rope=(2.0, 5e3))

# Refused whatever they are but the default; all else is served.
REFUSED = {
    ("decode.BatchDecodeWithPagedKVCacheWrapper.__init__", "jit_args"),
    ("decode.BatchDecodeWithPagedKVCacheWrapper._plan_impl", "window_right"),
    ("decode.BatchDecodeWithPagedKVCacheWrapper.run", "kv_cache_sf"),
    ("decode.BatchDecodeWithPagedKVCacheWrapper.run", "skip_softmax_threshold_scale_factor"),
    ("prefill.single_prefill_with_kv_cache", "kv_cache_sf"),
    *(("prefill.BatchPrefillWithPagedKVCacheWrapper.__init__", name) for name in ("jit_args", "jit_kwargs")),
    ("prefill.BatchPrefillWithPagedKVCacheWrapper.run", "kv_cache_sf"),
    ("prefill.BatchPrefillWithPagedKVCacheWrapper.run", "skip_softmax_threshold_scale_factor"),
    ("prefill.BatchPrefillWithPagedKVCacheWrapper.run", "uses_spcompress"),
    *(("prefill.BatchPrefillWithRaggedKVCacheWrapper.__init__", name) for name in ("jit_args", "jit_kwargs")),
    *(("prefill.BatchPrefillWithRaggedKVCacheWrapper.plan", name) for name in ("v_indptr", "o_indptr")),
    ("prefill.BatchPrefillWithRaggedKVCacheWrapper.run", "kv_cache_sf"),
}


def i32(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


def offsets(lens):
    return i32(0, *itertools.accumulate(lens))


def workspace():
    return torch.empty(1 << 10, dtype=torch.uint8)


def buffers(batch, pages):
    return [torch.zeros(n, dtype=torch.int32) for n in (batch + 1, pages, batch)]


def masks_of(draw, qo=QO, kv=KV):
    return [
        (torch.rand(rows, keys, generator=draw.generator, device="cpu") < 0.5).to(DEVICE) for rows, keys in zip(qo, kv, strict=True)
    ]


def check_split(wrapper, given, page=PAGE):
    """Results say nothing about splits, so that what was planned is looked at: tokens of a split, 16 and more; -1 for none."""
    tokens = -1 if given.get("disable_split_kv") else max(given.get("fixed_split_size", 0) * page, 0)
    assert wrapper._features(wrapper._shape).split_tokens == tokens


def meta(x):
    return x.to("meta")


def replaced(arguments, index, value):
    return (*arguments[:index], value, *arguments[index + 1 :])


def refused(match, call, *args, **given):
    with pytest.raises(lathe.SpecError, match=match.replace("on cpu", f"on {SHOWN}")):
        call(*args, **given)


class Pages:
    """Requests of given lengths in pages that lie anywhere, with keys and values [keys, kv_heads, dim] of each."""

    def __init__(self, draw, lens=KV, page=PAGE, dtype=torch.float16, layout="NHD"):
        counts = [-(-n // page) for n in lens]
        order = torch.randperm(sum(counts) + 2, generator=draw.generator, device="cpu")[: sum(counts)]
        self.indptr, self.indices = offsets(counts), order.int().to(DEVICE)
        self.last = i32(*((n - 1) % page + 1 if n else 0 for n in lens))
        shape = (sum(counts) + 2, 2, page, KV_HEADS, DIM)
        self.cache = draw(*shape).to(dtype)
        rows = self.cache.cpu()[order].double()
        begins = self.indptr.tolist()
        self.keys, self.values = (
            [rows[a:b, side].reshape(-1, KV_HEADS, DIM)[:n] for a, b, n in zip(begins, begins[1:], lens, strict=False)]
            for side in (0, 1)
        )
        if layout == "HND":
            self.cache = self.cache.transpose(2, 3).contiguous()

    @property
    def arrays(self):
        return self.indptr, self.indices, self.last

    def expected(self, q, qo=QO, masks=None, **means):
        parts = []
        for i, n in enumerate(qo):
            a = sum(qo[:i])
            mask = None if masks is None else masks[i]
            parts.append(attend(q[a : a + n], self.keys[i], self.values[i], mask=mask, **means))
        return torch.cat([o for o, _ in parts]), torch.cat([lse for _, lse in parts])
