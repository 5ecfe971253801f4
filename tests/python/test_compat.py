"""lathe.compat.flashinfer on CPU tensors, against attention in fp64: one request at a time, pages, masks, states."""

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import lathe  # noqa: E402
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from attention_f64 import attend, close  # noqa: E402

SEED = 20261122
HEADS, KV_HEADS, DIM = 4, 2, 64
F8, BF = torch.float8_e4m3fn, torch.bfloat16


@pytest.fixture
def draw():
    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape, dtype=torch.float16):
        return torch.randn(*shape, generator=generator).to(dtype)

    normal.generator = generator
    return normal


MASK = torch.rand(9, 30, generator=torch.Generator().manual_seed(SEED)) < 0.4
MASK[3] = False  # a row that sees nothing
PACKED = torch.from_numpy(np.packbits(MASK.numpy(), bitorder="little"))

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


def offsets(lens):
    return torch.tensor([0, *itertools.accumulate(lens)], dtype=torch.int32)


def expected_ragged(q, k, v, masks=None, **means):
    parts = []
    for i, (rows, keys) in enumerate(zip(QO, KV, strict=True)):
        a, b = sum(QO[:i]), sum(KV[:i])
        mask = None if masks is None else masks[i]
        parts.append(attend(q[a : a + rows], k[b : b + keys], v[b : b + keys], mask=mask, **means))
    return torch.cat([o for o, _ in parts]), torch.cat([lse for _, lse in parts])


def workspace():
    return torch.empty(1 << 10, dtype=torch.uint8)


RAGGED = {
    "plain": ({}, {}),
    "causal": (dict(causal=True, use_fp16_qk_reduction=True, non_blocking=False, max_token_per_sequence=5), dict(causal=True)),
    "window": (dict(causal=True, window_left=2, sm_scale=0.2, max_sequence_kv=30), dict(causal=True, window=2, scale=0.2)),
    "cap": (dict(logits_soft_cap=1.5, q_data_type="float16", kv_data_type=torch.float16), dict(cap=1.5)),
    "rotary": (dict(pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3), dict(rope=(2.0, 5e3))),
    "split": (dict(fixed_split_size=16, seq_lens=torch.tensor(KV), seq_lens_q=torch.tensor(QO)), {}),
    "no split": (dict(disable_split_kv=True, o_data_type="bfloat16"), {}),
}


@pytest.mark.parametrize("name", RAGGED)
def test_ragged(draw, name):
    given, means = RAGGED[name]
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace(), backend="fa3")
    wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, **given)
    o, lse = wrapper.run(q, k, v, return_lse=True, enable_pdl=True)
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
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, 32)
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace())
    wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, 32)
    close(wrapper.run(q, k, v), expected_ragged(q, k, v)[0], 3e-3)


def masks_of(draw):
    return [torch.rand(rows, keys, generator=draw.generator) < 0.5 for rows, keys in zip(QO, KV, strict=True)]


@pytest.mark.parametrize("window", [-1, 3])
def test_ragged_masks(draw, window):
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
    masks = masks_of(draw)
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
    options = dict(causal=True, window_left=2, logits_soft_cap=0.0, sm_scale=0.2)
    expected, expected_lse = expected_ragged(q, k, v, causal=True, window=2, scale=0.2)
    close(wrapper.forward(q, k, v, use_fp16_qk_reduction=True, **options), expected, 3e-3)
    close(wrapper.forward_return_lse(q, k, v, **options)[1], expected_lse, 3e-4)
    close(wrapper.forward(q, k, v, pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3),
          expected_ragged(q, k, v, rope=(2.0, 5e3))[0], 3e-3)  # fmt: skip
    wrapper.end_forward()
    assert not wrapper.is_cuda_graph_enabled
    wrapper.reset_workspace_buffer(workspace(), workspace())


# States.
def test_merging_is_attention_over_all_keys(draw):
    q, k, v = draw(9, HEADS, DIM), draw(30, KV_HEADS, DIM), draw(30, KV_HEADS, DIM)
    expected, expected_lse = attend(q, k, v)
    cuts = [(0, 7), (7, 7), (7, 30)]  # the middle one is empty
    states = [flashinfer.single_prefill_with_kv_cache(q, k[a:b], v[a:b], return_lse=True) for a, b in cuts]
    both = flashinfer.merge_state(*states[0], *states[2])
    every = flashinfer.merge_states(torch.stack([o for o, _ in states], 1), torch.stack([lse for _, lse in states], 1))
    for o, lse in (both, every):
        assert o.dtype == torch.float16
        close(o, expected, 3e-3)
        close(lse, expected_lse, 3e-4)
    o, lse = states[0][0].clone(), states[0][1].clone()
    mask = torch.arange(9) % 2 == 0
    assert flashinfer.merge_state_in_place(o, lse, *states[2], mask=mask) is None
    assert torch.equal(o[mask], both[0][mask]) and torch.equal(o[~mask], states[0][0][~mask])
    assert torch.equal(lse[mask], both[1][mask]) and torch.equal(lse[~mask], states[0][1][~mask])
    flashinfer.merge_state_in_place(o[1::2], lse[1::2], states[2][0][1::2], states[2][1][1::2])
    assert torch.equal(o, both[0])
    nothing = flashinfer.merge_state(*states[1], *states[1])
    assert (nothing[0] == 0).all() and (nothing[1] == -math.inf).all()


# Bits.
@pytest.mark.parametrize("order", ["big", "little"])
def test_packbits(draw, order):
    for n in (0, 1, 7, 8, 9, 1000):
        x = torch.rand(n, generator=draw.generator) < 0.5
        assert flashinfer.packbits(x, order).tolist() == np.packbits(x.numpy(), bitorder=order).tolist()
    indptr = torch.tensor([0, 0, 5, 13, 30, 31])
    packed, begins = flashinfer.segment_packbits(x[:31].int(), indptr, order)
    parts = [np.packbits(x[a:b].numpy(), bitorder=order) for a, b in itertools.pairwise(indptr.tolist())]
    assert packed.tolist() == np.concatenate(parts).tolist() and begins.dtype == torch.int32
    assert begins.tolist() == [0, *itertools.accumulate(map(len, parts))]
    assert flashinfer.packbits(torch.tensor([1, 0, 0, 0, 0, 0, 0, 0])).tolist() == [128]


def refused(match, call, *args, **given):
    with pytest.raises(lathe.SpecError, match=match):
        call(*args, **given)


def test_refusals(draw):
    q, k, v = draw(9, HEADS, DIM), draw(30, KV_HEADS, DIM), draw(30, KV_HEADS, DIM)
    single = flashinfer.single_prefill_with_kv_cache
    refused(r"kv_cache_sf: is \(1, 2\); allowed: None", single, q, k, v, kv_cache_sf=(1, 2))
    refused(r"pos_encoding_mode: is 'ROPE'; allowed: NONE, ROPE_LLAMA, ALIBI", single, q, k, v, pos_encoding_mode="ROPE")
    refused(r"kv_layout: is 'DHN'; allowed: NHD, HND", single, q, k, v, kv_layout="DHN")
    refused(r"q: has 3 heads, k has 2", single, q[:, :3], k, v)
    refused(r"kv_data_type: is torch.bfloat16, q_data_type is torch.float16", single, q, k.to(BF), v.to(BF))
    refused(r"q_data_type: is torch.float32; allowed", single, q.float(), k.float(), v.float())
    refused(r"head_dim_qk: 520 is not allowed", single, draw(2, 4, 520), draw(3, 2, 520), draw(3, 2, 520))
    refused(
        r"packed_custom_mask: is torch.uint8 \[3\]; allowed: torch.uint8 of at least 34",
        single,
        q,
        k,
        v,
        packed_custom_mask=PACKED[:3],
    )
    refused(r"sm_scale: comes to 0.0", single, q, k, v, sm_scale=0.0)
    refused(r"sm_scale: comes to nan", single, q, k, v, k_scale=float("nan"))
    refused(r"k_scale: has 2 elements", single, q, k, v, k_scale=torch.ones(2))
    refused(r"scale_q: has 3 elements; allowed: 1, or one for each of 4 heads", single, q, k, v, scale_q=torch.ones(3))
    refused(r"q: has the shape \[9, 4, 64\]; allowed: \[heads, dim\]", flashinfer.single_decode_with_kv_cache, q, k, v)
    with pytest.raises(NotImplementedError):  # so that programs that fall back do so
        single(q, k, v, kv_cache_sf=(1, 2))
    ragged = flashinfer.BatchPrefillWithRaggedKVCacheWrapper
    refused(r"backend: is 'cudnn'; allowed: auto, fa2", ragged, workspace(), backend="cudnn")
    refused(r"jit_args: is \['x'\]; allowed: None", ragged, workspace(), jit_args=["x"])
    refused(
        r"float_workspace_buffer must be 16-byte aligned; its address is 8 modulo 16",
        ragged,
        workspace()[8 - workspace().data_ptr() % 16 :],
    )
    refused(r"qo_indptr_buf: is a NoneType; allowed: a torch.Tensor", ragged, workspace(), use_cuda_graph=True)
    wrapper = ragged(workspace())
    refused(r"plan: is not there", wrapper.run, q, k, v)
    plan = (offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM)
    refused(r"prefix_len_ptr: is a tensor \[2\]; allowed: None", wrapper.plan, *plan, prefix_len_ptr=torch.ones(2))
    refused(r"token_pos_in_items_len: is 3; allowed: 0", wrapper.plan, *plan, token_pos_in_items_len=3)
    refused(r"v_indptr: is a tensor", wrapper.plan, *plan, v_indptr=offsets(KV))
    refused(r"seq_lens: differs from the lengths", wrapper.plan, *plan, seq_lens=torch.tensor(QO))
    refused(r"q_data_type: is 'half16'; allowed: a torch.dtype", wrapper.plan, *plan, q_data_type="half16")
    refused(r"num_qo_heads: is 3, num_kv_heads is 2", wrapper.plan, offsets(QO), offsets(KV), 3, 2, DIM)
    refused(r"kv_indptr: has 2 entries; allowed: 5", wrapper.plan, offsets(QO), offsets([3]), HEADS, KV_HEADS, DIM)
    refused(r"custom_mask: has 3 elements; allowed: 180", wrapper.plan, *plan, custom_mask=torch.ones(3, dtype=torch.bool))
    refused(r"qo_indptr: has elements of torch.float32", wrapper.plan, offsets(QO).float(), *plan[1:])
    wide = offsets(QO).long() + torch.tensor([0] * len(QO) + [2**32])  # the same numbers in the low 32 bits
    refused(rf"qo_indptr: holds 0\.\.{sum(QO) + 2**32}; allowed: numbers of 32 bits", wrapper.plan, wide, *plan[1:])
    wrapper.plan(*plan)
    rows, keys = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
    refused(r"q: has the shape \[9, 4, 64\]; allowed: \[11, 4, 64\], as planned", wrapper.run, q, keys, keys)
    refused(r"q: has elements of torch.bfloat16; allowed: torch.float16", wrapper.run, rows.to(BF), keys, keys)
    refused(r"k: has 1 heads of 64; allowed: 2 of 64", wrapper.run, rows, keys[:, :1], keys)
    refused(r"v: has elements of torch.bfloat16", wrapper.run, rows, keys, keys.to(BF))
    refused(
        r"out: is torch.float16 \[1, 4, 64\] on cpu; allowed: torch.float16 \[11, 4, 64\]",
        wrapper.run,
        rows,
        keys,
        keys,
        out=rows[:1],
    )
    refused(r"run: has 1 further arguments", wrapper.run, rows, keys, keys, 1.0)
    refused(r"sm_scale: comes to -0.125", wrapper.run, rows, keys, keys, q_scale=-1.0)
    refused(r"q: requires a gradient", wrapper.run, rows.clone().requires_grad_(), keys, keys)
    refused(r"bitorder: is 'middle'; allowed: big, little", flashinfer.packbits, PACKED, "middle")
    refused(r"mask: is torch.uint8", flashinfer.merge_state_in_place, q, q[..., 0].float(), q, q[..., 0].float(), mask=PACKED[:9])
    with pytest.raises(TypeError, match="causale"):
        wrapper.plan(*plan, causale=True)
