"""lathe.compat.flashinfer against attention in fp64: states, levels of keys, new tokens."""

import math

import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from attention_f64 import attend, close  # noqa: E402
from compat_cases import BF, DIM, F8, HEADS, KV, KV_HEADS, PAGE, QO, ROTARY, TURNED, Pages, offsets, workspace  # noqa: E402

pytestmark = pytest.mark.usefixtures("recorded")


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


LEVEL_ROWS = [2, 3, 1]  # of 16 tokens of all requests, then of those of each


def levels_of(pages):
    """Arrays of plan(), one of each level."""
    own = pages.indptr[1:] - pages.indptr[1]
    first = int(pages.indptr[1])
    return (
        [offsets([sum(LEVEL_ROWS)]), offsets(LEVEL_ROWS)],
        [pages.indptr[:2], own],
        [pages.indices[:first], pages.indices[first:]],
        [pages.last[:1], pages.last[1:]],
    )


def merged(states):
    """Of states in fp64, with log-sum-exps of base 2."""
    o, lse = (torch.stack(parts) for parts in zip(*states, strict=True))
    return (o * (lse * math.log(2)).softmax(0).unsqueeze(-1)).sum(0)


CASCADE = {
    "causal": (dict(causal=True, use_fp16_qk_reduction=True, sm_scale=0.2), dict(scale=0.2), torch.float16, torch.float16),
    "cap": (dict(logits_soft_cap=1.5, kv_data_type=F8), dict(cap=1.5), torch.float16, F8),
    # Positions and windows are those of each level by itself, as FlashInfer has them.
    "rotary": (ROTARY, TURNED, torch.float16, torch.float16),
    "window": (dict(causal=True, window_left=2, q_data_type="bfloat16"), dict(window=2), BF, BF),
}


@pytest.mark.parametrize("in_buffers", [False, True])
@pytest.mark.parametrize("name", CASCADE)
def test_cascade(draw, name, in_buffers):
    given, means, q_dtype, kv_dtype = CASCADE[name]
    layout = "HND" if in_buffers else "NHD"
    pages, q = Pages(draw, [16, 5, 9, 3], dtype=kv_dtype, layout=layout), draw(sum(LEVEL_ROWS), HEADS, DIM, dtype=q_dtype)
    shared = attend(q, pages.keys[0], pages.values[0], **means)
    pages.keys, pages.values = pages.keys[1:], pages.values[1:]
    expected = merged([shared, pages.expected(q, LEVEL_ROWS, causal=given.get("causal", False), **means)])
    arrays = levels_of(pages)
    names = ("qo_indptr_buf_arr", "paged_kv_indptr_buf_arr", "paged_kv_indices_buf_arr", "paged_kv_last_page_len_buf_arr")
    kept = {key: [torch.zeros_like(x) for x in array] for key, array in zip(names, arrays, strict=True)} if in_buffers else {}
    wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(2, workspace(), layout, in_buffers, **kept)
    assert wrapper.is_cuda_graph_enabled == in_buffers
    wrapper.plan(*arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
    o = wrapper.run(q, pages.cache)
    assert o.dtype == q_dtype
    close(o, expected, 3e-3 if q_dtype == torch.float16 else 1.2e-2)
    assert torch.equal(wrapper.forward(q, pages.cache), o)
    wrapper.reset_workspace_buffer(workspace(), [workspace(), workspace()])
    wrapper.begin_forward(*arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
    assert torch.equal(wrapper.run(q, pages.cache), o)


def test_cascade_is_attention_over_all_keys(draw):
    """Of one level, and of two with a causal last one."""
    pages, q = Pages(draw, [16, 5, 9, 3]), draw(sum(LEVEL_ROWS), HEADS, DIM)
    arrays = levels_of(pages)
    keys, values = ([torch.cat((x[0], own)) for own in x[1:]] for x in (pages.keys, pages.values))
    wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(2, workspace())
    wrapper.plan(*arrays, HEADS, KV_HEADS, DIM, PAGE, True)
    pages.keys, pages.values = keys, values
    close(wrapper.run(q, pages.cache), pages.expected(q, LEVEL_ROWS, causal=True)[0], 3e-3)
    one = flashinfer.MultiLevelCascadeAttentionWrapper(1, workspace())
    one.plan(*(x[:1] for x in arrays), HEADS, KV_HEADS, DIM, PAGE)
    close(one.run(q, pages.cache), attend(q, keys[0][:16], values[0][:16])[0], 3e-3)


@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_a_shared_prefix(draw, layout):
    """13 keys that lie apart, then those of each request."""
    pages, q = Pages(draw, layout=layout), draw(sum(QO), HEADS, DIM)
    k, v = draw(13, KV_HEADS, DIM), draw(13, KV_HEADS, DIM)
    shared = [x if layout == "NHD" else x.transpose(0, 1).contiguous() for x in (k, v)]
    pages.keys = [torch.cat((k.cpu().double(), x)) for x in pages.keys]
    pages.values = [torch.cat((v.cpu().double(), x)) for x in pages.values]
    prefill = flashinfer.BatchPrefillWithSharedPrefixPagedKVCacheWrapper(workspace(), layout)
    prefill.begin_forward(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
    # Positions are not encoded, so that ropes say nothing.
    options = dict(causal=True, use_fp16_qk_reduction=True, sm_scale=0.2, rope_scale=2.0, rope_theta=5e3)
    close(prefill.forward(q, *shared, pages.cache, **options), pages.expected(q, causal=True, scale=0.2)[0], 3e-3)
    decode = flashinfer.BatchDecodeWithSharedPrefixPagedKVCacheWrapper(workspace(), layout)
    decode.begin_forward(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
    close(decode.forward(q[:3], *shared, pages.cache), pages.expected(q[:3], [1, 1, 1])[0], 3e-3)
    decode.begin_forward(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, data_type="bfloat16")
    q, k, v, pages.cache = (x.to(BF) for x in (q, *shared, pages.cache))
    expected, _ = pages.expected(q[:3], [1, 1, 1])  # of keys before they are rounded to bf16
    close(decode.forward(q[:3], k, v, pages.cache), expected, 2e-2)
    for wrapper in (prefill, decode):
        wrapper.reset_workspace_buffer(workspace(), workspace())
        wrapper.end_forward()


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("dtype", [torch.float16, F8])
def test_append(draw, layout, dtype):
    """New tokens go behind those that are there; the rest of the cache stays as it was."""
    pages = Pages(draw, layout=layout, dtype=dtype)
    new = [3, 0, 5]
    indptr = offsets(new)
    lens = flashinfer.get_seq_lens(pages.indptr, pages.last, PAGE)
    assert lens.tolist() == KV
    given = torch.zeros(10, dtype=torch.int32), torch.zeros(10, dtype=torch.int32)
    requests, positions = flashinfer.get_batch_indices_positions(indptr, lens, 10, *given)
    assert requests is given[0] and requests.tolist() == [0, 0, 0, 2, 2, 2, 2, 2, -1, -1]
    assert positions.tolist() == [7, 8, 9, 16, 17, 18, 19, 20, 0, 0]
    assert [x.tolist() for x in flashinfer.get_batch_indices_positions(indptr, lens, 10)] == [x.tolist() for x in given]
    keys, values = draw(10, KV_HEADS, DIM).to(dtype), draw(10, KV_HEADS, DIM).to(dtype)
    expected = pages.cache.double().clone()
    ordered = expected if layout == "NHD" else expected.transpose(2, 3)
    for token, (request, position) in enumerate(zip(requests.tolist(), positions.tolist(), strict=True)):
        if request >= 0:
            page = int(pages.indices[int(pages.indptr[request]) + position // PAGE])
            ordered[page, 0, position % PAGE], ordered[page, 1, position % PAGE] = keys[token].double(), values[token].double()
    both = pages.cache.clone()
    flashinfer.append_paged_kv_cache(
        keys, values, requests, positions, pages.cache, pages.indices, pages.indptr, pages.last, layout
    )
    assert torch.equal(pages.cache.double(), expected)
    separate = tuple(x.clone() for x in both.unbind(1))
    flashinfer.append_paged_kv_cache(keys, values, requests, positions, separate, pages.indices, pages.indptr, pages.last, layout)
    assert torch.equal(torch.stack(separate, 1).double(), expected)
