"""lathe.compat.flashinfer against attention in fp64: one request at a time, ragged batches, bits."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from attention_f64 import attend, close  # noqa: E402
from compat_cases import BF, DIM, F8, HEADS, KV_HEADS, check_split, masks_of, offsets, workspace  # noqa: E402
from devices import DEVICE  # noqa: E402

pytestmark = pytest.mark.usefixtures("recorded")
MASK = torch.rand(9, 30, generator=torch.Generator("cpu").manual_seed(20261122), device="cpu").to(DEVICE) < 0.4
MASK[3] = False  # a row that sees nothing
PACKED = torch.from_numpy(np.packbits(MASK.cpu().numpy(), bitorder="little")).to(DEVICE)

# What is asked for, and what that means.
SINGLE = {
    "plain": ({}, {}),
    "causal": (dict(causal=True, backend="fa2", use_fp16_qk_reduction=True), dict(causal=True)),
    "HND": (dict(causal=True, kv_layout="HND"), dict(causal=True)),
    "window": (dict(window_left=4), dict(window=4)),
    "causal window": (dict(window_left=0, causal=True), dict(window=0, causal=True)),
    "scale": (dict(sm_scale=0.3, k_scale=0.5, v_scale=1.5), dict(scale=0.15)),
    "cap": (dict(logits_soft_cap=1.5), dict(cap=1.5)),
    "mask": (dict(custom_mask=MASK), dict(mask=MASK)),
    "mask before causal": (dict(custom_mask=MASK, causal=True), dict(mask=MASK)),
    "packed mask, window": (dict(packed_custom_mask=PACKED, window_left=7), dict(mask=MASK, window=7)),
    "rotary": (dict(pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3), dict(rope=(2.0, 5e3))),
    "alibi": (dict(pos_encoding_mode="ALIBI"), dict(alibi=True)),
    "alibi, cap": (dict(pos_encoding_mode="ALIBI", logits_soft_cap=3.0), dict(alibi=True, cap=3.0)),
    "result": (dict(o_dtype=BF), {}),
}


@pytest.mark.parametrize("name", SINGLE)
def test_single_prefill(draw, name):
    given, means = SINGLE[name]
    q, k, v = draw(9, HEADS, DIM), draw(30, KV_HEADS, DIM), draw(30, KV_HEADS, DIM)
    expected, expected_lse = attend(q, k, v, **means)
    if given.get("kv_layout") == "HND":
        k, v = k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()
    o, lse = flashinfer.single_prefill_with_kv_cache(q, k, v, return_lse=True, **given)
    assert o.dtype == given.get("o_dtype", torch.float16) and lse.dtype == torch.float32
    close(o, expected * given.get("v_scale", 1.0), 8e-3 if o.dtype == BF else 3e-3)
    close(lse, expected_lse, 3e-4)
    again = flashinfer.single_prefill_with_kv_cache_return_lse(q, k, v, **given)
    assert torch.equal(again[0], o) and torch.equal(flashinfer.single_prefill_with_kv_cache(q, k, v, **given), o)


def test_single_prefill_of_8_bits(draw):
    """Scales of heads; results in the type of q unless another is asked for."""
    q, k, v = draw(9, HEADS, DIM).to(F8), draw(30, KV_HEADS, DIM).to(F8), draw(30, KV_HEADS, DIM).to(F8)
    of_q, of_k, of_v = torch.tensor([0.5, 1.0, 2.0, 1.5]), torch.tensor([1.0, 0.7]), torch.tensor([0.5, 3.0])
    o = flashinfer.single_prefill_with_kv_cache(q, k, v, of_q, of_k, of_v, o_dtype=torch.float16)
    scaled = [x.double() * s[:, None].double() for x, s in ((q, of_q), (k, of_k), (v, of_v))]
    expected, _ = attend(*scaled)
    close(o, expected, 4e-3)
    assert flashinfer.single_prefill_with_kv_cache(q, k, v).dtype == F8


def test_single_decode(draw):
    q, k, v = draw(HEADS, DIM), draw(30, KV_HEADS, DIM), draw(30, KV_HEADS, DIM)
    expected, expected_lse = attend(q[None], k, v, scale=0.5 * 0.25 * 2.0, window=4, cap=1.5)
    options = dict(q_scale=0.5, k_scale=2.0, v_scale=3.0, window_left=4, logits_soft_cap=1.5, sm_scale=0.25, use_tensor_cores=True)
    for layout in ("NHD", "HND"):
        keys, values = (x if layout == "NHD" else x.transpose(0, 1) for x in (k, v))
        o, lse = flashinfer.single_decode_with_kv_cache(q, keys, values, layout, return_lse=True, **options)
        close(o, expected[0] * 3.0, 3e-3)
        close(lse, expected_lse[0], 3e-4)
    o = flashinfer.single_decode_with_kv_cache(q, k, v, pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3)
    close(o, attend(q[None], k, v, rope=(2.0, 5e3))[0][0], 3e-3)


# Ragged batches: rows and keys of three requests, one without keys, one without rows.
QO, KV = [5, 0, 4, 2], [12, 3, 30, 0]


def expected_ragged(q, k, v, masks=None, **means):
    parts = []
    for i, (rows, keys) in enumerate(zip(QO, KV, strict=True)):
        a, b = sum(QO[:i]), sum(KV[:i])
        mask = None if masks is None else masks[i]
        parts.append(attend(q[a : a + rows], k[b : b + keys], v[b : b + keys], mask=mask, **means))
    return torch.cat([o for o, _ in parts]), torch.cat([lse for _, lse in parts])


RAGGED = {
    "plain": ({}, {}),
    "causal": (dict(causal=True, use_fp16_qk_reduction=True, non_blocking=False, max_token_per_sequence=5), dict(causal=True)),
    "window": (dict(causal=True, window_left=2, sm_scale=0.2, max_sequence_kv=30), dict(causal=True, window=2, scale=0.2)),
    "cap": (dict(logits_soft_cap=1.5, q_data_type="float16", kv_data_type=torch.float16), dict(cap=1.5)),
    "rotary": (dict(pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3), dict(rope=(2.0, 5e3))),
    "split": (dict(fixed_split_size=16, seq_lens=torch.tensor(KV), seq_lens_q=torch.tensor(QO)), {}),
    "no split": (dict(disable_split_kv=True, o_data_type="bfloat16"), {}),
    "bf16": (dict(q_data_type="bfloat16"), {}),
    "8-bit keys": (dict(kv_data_type="float8_e4m3fn"), {}),
    "rotary, 8-bit keys": (
        dict(kv_data_type="float8_e4m3fn", pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3),
        dict(rope=(2.0, 5e3)),
    ),
}


@pytest.mark.parametrize("name", RAGGED)
def test_ragged(draw, name):
    given, means = RAGGED[name]
    q_dtype = getattr(torch, str(given.get("q_data_type", "float16")))
    kv_dtype = F8 if "8-bit keys" in name else q_dtype
    q, k, v = draw(sum(QO), HEADS, DIM, dtype=q_dtype), *(draw(sum(KV), KV_HEADS, DIM, dtype=kv_dtype) for _ in range(2))
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace(), backend="fa3")
    wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, **given)
    check_split(wrapper, given, page=1)
    o, lse = wrapper.run(q, k, v, return_lse=True, enable_pdl=True)
    assert o.dtype == getattr(torch, given.get("o_data_type", ""), q_dtype)
    expected, expected_lse = expected_ragged(q, k, v, **means)
    close(o, expected, 8e-3 if o.dtype == BF else 3e-3)
    close(lse, expected_lse, 3e-4)
    out, base = torch.empty_like(o), torch.empty_like(lse)
    assert wrapper.run(q, k, v, out=out, lse=base, return_lse=True)[0] is out and torch.equal(out, o) and torch.equal(base, lse)
    assert torch.equal(wrapper.run_return_lse(q, k, v)[1], lse)


def test_ragged_scales_and_order(draw):
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace(), "HND")
    wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM)
    o = wrapper.run(q, k.transpose(0, 1), v.transpose(0, 1), q_scale=0.5, k_scale=3.0, v_scale=2.0, o_scale=4.0)
    close(o, expected_ragged(q, k, v, scale=1.5 * DIM**-0.5)[0] / 2.0, 3e-3)


def test_ragged_of_two_head_dims(draw):
    """And of 8 bits, with scales of heads."""
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, 32)
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace())
    wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, 32)
    close(wrapper.run(q, k, v), expected_ragged(q, k, v)[0], 3e-3)
    wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, 32, q_data_type=F8, o_data_type="float16")
    q, k, v = q.to(F8), k.to(F8), v.to(F8)
    of_q, of_k, of_v = torch.tensor([0.5, 1.0, 2.0, 1.5]), torch.tensor([1.0, 0.7]), torch.tensor([0.5, 3.0])
    scaled = [x.double() * scale[:, None] for x, scale in ((q, of_q), (k, of_k), (v, of_v))]
    o = wrapper.run(q, k, v, of_q, of_k, of_v)
    assert o.dtype == torch.float16
    close(o, expected_ragged(*scaled)[0], 4e-3)


@pytest.mark.parametrize("window", [-1, 3])
def test_ragged_masks(draw, window):
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
    masks = masks_of(draw, QO, KV)
    flat = torch.cat([mask.flatten() for mask in masks])
    packed, _ = flashinfer.segment_packbits(flat, offsets([mask.numel() for mask in masks]), bitorder="little")
    expected, expected_lse = expected_ragged(q, k, v, masks, window=window)
    for given in (dict(custom_mask=flat), dict(packed_custom_mask=packed)):
        wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace())
        wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, window_left=window, **given)
        o, lse = wrapper.run(q, k, v, return_lse=True)
        close(o, expected, 3e-3)
        close(lse, expected_lse, 3e-4)


def test_older_names(draw):
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace())
    wrapper.begin_forward(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, q_data_type=torch.float16)
    options = dict(causal=True, window_left=2, logits_soft_cap=1.5, sm_scale=0.2, use_fp16_qk_reduction=True)
    rotary = dict(pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3)
    for given, means in (
        (options, dict(causal=True, window=2, scale=0.2, cap=1.5)),
        ({**options, "logits_soft_cap": -1.0}, dict(causal=True, window=2, scale=0.2)),
        (rotary, dict(rope=(2.0, 5e3))),
    ):
        expected, expected_lse = expected_ragged(q, k, v, **means)
        close(wrapper.forward(q, k, v, **given), expected, 3e-3)
        close(wrapper.forward_return_lse(q, k, v, **given)[1], expected_lse, 3e-4)
    wrapper.end_forward()
    assert not wrapper.is_cuda_graph_enabled
    wrapper.reset_workspace_buffer(workspace(), workspace())


# Bits.
@pytest.mark.parametrize("order", ["big", "little"])
def test_packbits(draw, order):
    for n in (0, 1, 7, 8, 9, 1000):
        x = torch.rand(n, generator=draw.generator, device="cpu").to(DEVICE) < 0.5
        assert flashinfer.packbits(x, order).tolist() == np.packbits(x.cpu().numpy(), bitorder=order).tolist()
    indptr = torch.tensor([0, 0, 5, 13, 30, 31])
    packed, begins = flashinfer.segment_packbits(x[:31].int(), indptr, order)
    parts = [np.packbits(x[a:b].cpu().numpy(), bitorder=order) for a, b in itertools.pairwise(indptr.tolist())]
    assert packed.tolist() == np.concatenate(parts).tolist() and begins.dtype == torch.int32
    assert begins.tolist() == [0, *itertools.accumulate(map(len, parts))]
    assert flashinfer.packbits(torch.tensor([1, 0, 0, 0, 0, 0, 0, 0])).tolist() == [128]
