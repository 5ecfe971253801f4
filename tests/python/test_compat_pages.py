"""lathe.compat.flashinfer against attention in fp64: pages."""

import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from attention_f64 import close  # noqa: E402
from compat_cases import (  # noqa: E402
    BF,
    DIM,
    F8,
    HEADS,
    KV,
    KV_HEADS,
    PAGE,
    QO,
    ROTARY,
    TURNED,
    Pages,
    check_split,
    masks_of,
    offsets,
    workspace,
)

pytestmark = pytest.mark.usefixtures("recorded")


PREFILL = {
    "plain": ({}, {}),
    "causal": (dict(causal=True, use_fp16_qk_reduction=True, non_blocking=False), dict(causal=True)),
    "window": (dict(causal=True, window_left=2, sm_scale=0.2), dict(causal=True, window=2, scale=0.2)),
    "cap": (dict(logits_soft_cap=1.5, q_data_type="float16", kv_data_type="float16"), dict(cap=1.5)),
    "lengths": (
        dict(seq_lens=torch.tensor(KV), seq_lens_q=torch.tensor(QO), max_token_per_sequence=4, max_sequence_kv=21, head_dim_vo=DIM),
        {},
    ),
    "rotary": (ROTARY, TURNED),
    "alibi": (dict(pos_encoding_mode="ALIBI"), dict(alibi=True)),
    "split": (dict(fixed_split_size=4), {}),
    "no split": (dict(disable_split_kv=True, o_data_type=BF, block_tables=torch.zeros(3, 6)), {}),
}


@pytest.mark.parametrize("name", PREFILL)
def test_prefill(draw, name):
    given, means = PREFILL[name]
    pages, q = Pages(draw), draw(sum(QO), HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), backend="fa2")
    wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
    check_split(wrapper, given)
    o, lse = wrapper.run(q, pages.cache, return_lse=True, enable_pdl=False, use_fp16_softmax=True)
    expected, expected_lse = pages.expected(q, **means)
    close(o, expected, 8e-3 if o.dtype == BF else 3e-3)
    close(lse, expected_lse, 3e-4)
    assert torch.equal(wrapper.run_return_lse(q, pages.cache)[0], o)


def test_layouts_and_strides(draw):
    """Joint and separate caches in both orders, cut out of larger ones; results are the same bits."""
    pages, q = Pages(draw), draw(sum(QO), HEADS, DIM)
    expected, _ = pages.expected(q)
    results = []
    for layout in ("NHD", "HND"):
        cache = pages.cache if layout == "NHD" else pages.cache.transpose(2, 3).contiguous()
        wide = torch.full((*cache.shape[:-2], cache.shape[-2] + 1, 2 * DIM), torch.nan).half()
        wide[..., : cache.shape[-2], DIM:] = cache
        cut = wide[..., : cache.shape[-2], DIM:]
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), layout)
        wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
        for given in (cache, tuple(cache.unbind(1)), cut, tuple(cut.unbind(1))):
            results.append(wrapper.run(q, given))
    close(results[0], expected, 3e-3)
    assert all(torch.equal(o, results[0]) for o in results)


def test_scales_sinks_and_windows_of_a_run(draw):
    pages, q, sinks = Pages(draw), draw(sum(QO), HEADS, DIM), torch.tensor([1.0, -2.0, 3.0, 0.0])
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, causal=True)
    out, base = torch.empty_like(q), torch.empty(sum(QO), HEADS)
    factors = dict(q_scale=0.5, k_scale=torch.tensor(3.0), v_scale=torch.tensor([2.0]))
    o, lse = wrapper.run(q, pages.cache, **factors, sinks=sinks, window_left=2, out=out, lse=base, return_lse=True)
    expected, expected_lse = pages.expected(q, causal=True, window=2, scale=1.5 * DIM**-0.5, sinks=sinks)
    assert o is out and lse is base
    close(o, 2.0 * expected, 4e-3)
    close(lse, expected_lse, 4e-4)
    close(wrapper.run(q, pages.cache), pages.expected(q, causal=True)[0], 3e-3)  # the window was that run's


@pytest.mark.parametrize("window", [-1, 3])
def test_masks(draw, window):
    pages, q = Pages(draw), draw(sum(QO), HEADS, DIM)
    masks = masks_of(draw)
    flat = torch.cat([mask.flatten() for mask in masks])
    packed, _ = flashinfer.segment_packbits(flat, offsets([mask.numel() for mask in masks]), bitorder="little")
    expected, expected_lse = pages.expected(q, masks=masks, window=window)
    for given in (dict(custom_mask=flat), dict(packed_custom_mask=packed)):
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
        wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, window_left=window, causal=True, **given)
        o, lse = wrapper.run(q, pages.cache, return_lse=True)
        close(o, expected, 3e-3)
        close(lse, expected_lse, 3e-4)


@pytest.mark.parametrize("q_dtype, kv_dtype", [(torch.float16, F8), (BF, torch.float8_e5m2), (BF, BF), (F8, F8)])
def test_types(draw, q_dtype, kv_dtype):
    pages, q = Pages(draw, dtype=kv_dtype), draw(sum(QO), HEADS, DIM, dtype=q_dtype)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, q_data_type=q_dtype, kv_data_type=kv_dtype)
    o = wrapper.run(q, pages.cache, k_scale=0.5, v_scale=2.0)
    assert o.dtype == q_dtype
    close(o, 2.0 * pages.expected(q, scale=0.5 * DIM**-0.5)[0], {torch.float16: 3e-3, BF: 1.2e-2, F8: 7e-2}[q_dtype])
    if q_dtype == F8:
        of_q, of_k, of_v = torch.tensor([0.5, 1.0, 2.0, 1.5]), torch.tensor([1.0, 0.7]), torch.tensor([0.5, 3.0])
        wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, q_data_type=F8, o_data_type="float16")
        pages.keys = [k * of_k[:, None].cpu() for k in pages.keys]
        pages.values = [v * of_v[:, None].cpu() for v in pages.values]
        close(wrapper.run(q, pages.cache, of_q, of_k, of_v), pages.expected(q.double() * of_q[:, None])[0], 4e-3)


def test_older_names_of_prefill(draw):
    pages, q = Pages(draw), draw(sum(QO), HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    wrapper.begin_forward(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
    options = dict(causal=True, window_left=2, logits_soft_cap=1.5, sm_scale=0.2, use_fp16_qk_reduction=True)
    for given, means in ((options, dict(causal=True, window=2, scale=0.4, cap=1.5)), (ROTARY, dict(scale=DIM**-0.5 * 2, **TURNED))):
        expected, expected_lse = pages.expected(q, **means)
        close(wrapper.forward(q, pages.cache, k_scale=2.0, v_scale=3.0, **given), 3.0 * expected, 3e-3)
        o, lse = wrapper.forward_return_lse(q, pages.cache, k_scale=2.0, v_scale=3.0, **given)
        close(o, 3.0 * expected, 3e-3)
        close(lse, expected_lse, 3e-4)
    wrapper.end_forward()
    wrapper.reset_workspace_buffer(workspace(), workspace())
    assert not wrapper.is_cuda_graph_enabled


DECODE = {
    "plain": ({}, {}, {}),
    "window": (dict(window_left=2, sm_scale=0.2), dict(window=2, scale=0.2), {}),
    "cap": (dict(logits_soft_cap=1.5, q_data_type="float16", kv_data_type="float16"), dict(cap=1.5), {}),
    "rotary": (ROTARY, TURNED, {}),
    "split": (dict(fixed_split_size=4, seq_lens=torch.tensor(KV)), {}, dict(use_tensor_cores=True)),
    "no split": (
        dict(disable_split_kv=True, o_data_type=BF, block_tables=torch.zeros(3, 6), non_blocking=False),
        {},
        dict(backend="trtllm-gen"),
    ),
}


@pytest.mark.parametrize("name", DECODE)
def test_decode(draw, name):
    given, means, made = DECODE[name]
    pages, q = Pages(draw), draw(3, HEADS, DIM)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), **made)
    assert wrapper.use_tensor_cores == bool(made)
    wrapper.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
    check_split(wrapper, given)
    o, lse = wrapper.run(q, pages.cache, return_lse=True, enable_pdl=True)
    expected, expected_lse = pages.expected(q, [1, 1, 1], **means)
    close(o, expected, 8e-3 if o.dtype == BF else 3e-3)
    close(lse, expected_lse, 3e-4)
    assert torch.equal(wrapper.run_return_lse(q, pages.cache)[1], lse)


def test_decode_of_pages_of_one_token(draw):
    pages, q = Pages(draw, page=1, layout="HND"), draw(3, HEADS, DIM)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), "HND")
    with pytest.warns(DeprecationWarning):
        wrapper.begin_forward(*pages.arrays, HEADS, KV_HEADS, DIM, 1, "NONE", -1, None, "float16")
    expected, expected_lse = pages.expected(q, [1, 1, 1])
    for cache in (pages.cache, pages.cache.squeeze(3), tuple(pages.cache.squeeze(3).unbind(1))):
        close(wrapper.run(q, cache), expected, 3e-3)
    # What is on the device is not looked at then.
    elsewhere = (torch.zeros_like(pages.indptr), pages.indices, pages.last)
    flashinfer.fast_decode_plan(wrapper, *elsewhere, HEADS, KV_HEADS, DIM, 1, global_override_indptr_cpu=pages.indptr.cpu())
    close(wrapper.run(q, pages.cache), expected, 3e-3)


def test_older_names_of_decode(draw):
    pages, q = Pages(draw), draw(3, HEADS, DIM)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace())
    wrapper.begin_forward(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
    options, factors = dict(window_left=2, logits_soft_cap=1.5, sm_scale=0.2), dict(q_scale=2.0, k_scale=1.5, v_scale=3.0)
    for given, means in ((options, dict(window=2, scale=0.6, cap=1.5)), (ROTARY, dict(scale=DIM**-0.5 * 3, **TURNED))):
        expected, expected_lse = pages.expected(q, [1, 1, 1], **means)
        close(wrapper.forward(q, pages.cache, **factors, **given), 3.0 * expected, 3e-3)
        o, lse = wrapper.forward_return_lse(q, pages.cache, **factors, **given)
        close(o, 3.0 * expected, 3e-3)
        close(lse, expected_lse, 3e-4)
    wrapper.end_forward()
    wrapper.reset_workspace_buffer(workspace(), workspace())


FAST = {
    "window": (dict(window_left=2, sm_scale=0.2, logits_soft_cap=1.5, non_blocking=False), dict(window=2, scale=0.2, cap=1.5), 1),
    "rotary": (ROTARY, TURNED, 1),
    "split": (dict(fixed_split_size=4, q_len_per_req=2), dict(causal=True), 2),
    "no split": (dict(disable_split_kv=True), {}, 1),
    "types": (dict(q_data_type=BF, kv_data_type=F8), {}, 1),
    "type": (dict(data_type="bfloat16"), {}, 1),
}


@pytest.mark.parametrize("name", FAST)
def test_fast_decode_plan(draw, name):
    """After a full plan of another batch with other options."""
    given, means, rows = FAST[name]
    types = {"types": (BF, F8), "type": (BF, BF)}.get(name, (torch.float16, torch.float16))
    before, pages, q = Pages(draw, [3, 30]), Pages(draw, dtype=types[1]), draw(3 * rows, HEADS, DIM, dtype=types[0])
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), use_tensor_cores=True)
    wrapper.plan(*before.arrays, HEADS, KV_HEADS, DIM, PAGE, window_left=7, sm_scale=1.0, o_data_type=types[0])
    flashinfer.fast_decode_plan(wrapper, *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
    check_split(wrapper, given)
    o, lse = wrapper.run(q, pages.cache, return_lse=True)
    expected, expected_lse = pages.expected(q, [rows] * 3, **means)
    assert o.dtype == types[0]
    close(o, expected, 3e-3 if types[0] == torch.float16 else 1.2e-2)
    close(lse, expected_lse, 3e-4)


def test_decode_of_8_bits(draw):
    """The cache alone, and all with scales of heads."""
    pages, q = Pages(draw, dtype=F8), draw(3, HEADS, DIM)
    plain = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace())
    plain.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, kv_data_type=F8)
    close(plain.run(q, pages.cache), pages.expected(q, [1, 1, 1])[0], 3e-3)
    q = q.to(F8)
    of_q, of_k, of_v = torch.tensor([0.5, 1.0, 2.0, 1.5]), torch.tensor([1.0, 0.7]), torch.tensor([0.5, 3.0])
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace())
    wrapper.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, data_type=F8, q_data_type=None, o_data_type="float16")
    pages.keys = [k * of_k[:, None].cpu() for k in pages.keys]
    pages.values = [v * of_v[:, None].cpu() for v in pages.values]
    expected, _ = pages.expected(q.double() * of_q[:, None], [1, 1, 1])
    close(wrapper.run(q, pages.cache, of_q, of_k, of_v), expected, 4e-3)


def test_decode_of_several_tokens(draw):
    pages, q = Pages(draw), draw(6, HEADS, DIM)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), use_tensor_cores=True)
    wrapper.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, q_len_per_req=2, data_type="float16", q_data_type=None)
    out, base, sinks = torch.empty_like(q), torch.empty(6, HEADS), torch.zeros(HEADS)
    wrapper.run(
        q, pages.cache, out=out, lse=base, sinks=sinks, q_scale=2.0, k_scale=0.25, v_scale=2.0, window_left=5, q_len_per_req=2
    )
    expected, expected_lse = pages.expected(q, [2, 2, 2], causal=True, sinks=sinks, window=5, scale=0.5 * DIM**-0.5)
    close(out, 2.0 * expected, 4e-3)
    close(base, expected_lse, 4e-4)
