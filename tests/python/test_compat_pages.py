"""lathe.compat.flashinfer on CPU tensors, against attention in fp64: pages, buffers of graphs, levels of keys, new tokens."""

import itertools

import pytest

torch = pytest.importorskip("torch")
import lathe  # noqa: E402
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from attention_f64 import attend, close  # noqa: E402
from lathe.compat._graphs_on_cpu import CUDAGraph, graph  # noqa: E402

SEED = 20261122
HEADS, KV_HEADS, DIM, PAGE = 4, 2, 64, 4
F8, BF = torch.float8_e4m3fn, torch.bfloat16
QO, KV = [3, 1, 4], [10, 4, 21]


@pytest.fixture
def draw():
    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape, dtype=torch.float16):
        return torch.randn(*shape, generator=generator).to(dtype)

    normal.generator = generator
    return normal


def i32(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


def offsets(lens):
    return i32(0, *itertools.accumulate(lens))


def workspace():
    return torch.empty(1 << 10, dtype=torch.uint8)


class Pages:
    """Requests of given lengths in pages that lie anywhere, with keys and values [keys, kv_heads, dim] of each."""

    def __init__(self, draw, lens=KV, page=PAGE, dtype=torch.float16, layout="NHD"):
        counts = [-(-n // page) for n in lens]
        order = torch.randperm(sum(counts) + 2, generator=draw.generator)[: sum(counts)]
        self.indptr, self.indices = offsets(counts), order.int()
        self.last = i32(*((n - 1) % page + 1 if n else 0 for n in lens))
        shape = (sum(counts) + 2, 2, page, KV_HEADS, DIM)
        self.cache = draw(*shape).to(dtype)
        rows = self.cache[order.long()].double()
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


PREFILL = {
    "plain": ({}, {}),
    "causal": (dict(causal=True, use_fp16_qk_reduction=True, non_blocking=False), dict(causal=True)),
    "window": (dict(causal=True, window_left=2, sm_scale=0.2), dict(causal=True, window=2, scale=0.2)),
    "cap": (dict(logits_soft_cap=1.5, q_data_type="float16", kv_data_type="float16"), dict(cap=1.5)),
    "lengths": (
        dict(seq_lens=torch.tensor(KV), seq_lens_q=torch.tensor(QO), max_token_per_sequence=4, max_sequence_kv=21, head_dim_vo=DIM),
        {},
    ),
    "rotary": (dict(pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3), dict(rope=(2.0, 5e3))),
    "alibi": (dict(pos_encoding_mode="ALIBI"), dict(alibi=True)),
    "split": (dict(fixed_split_size=4), {}),
    "no split": (dict(disable_split_kv=True, o_data_type=BF, block_tables=torch.zeros(3, 6)), {}),
}


@pytest.mark.parametrize("name", PREFILL)
def test_prefill(draw, name):
    given, means = PREFILL[name]
    pages, q = Pages(draw), draw(sum(QO), HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
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
    masks = [torch.rand(rows, keys, generator=draw.generator) < 0.5 for rows, keys in zip(QO, KV, strict=True)]
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
        pages.keys = [k * of_k[:, None] for k in pages.keys]
        pages.values = [v * of_v[:, None] for v in pages.values]
        close(wrapper.run(q, pages.cache, of_q, of_k, of_v), pages.expected(q.double() * of_q[:, None])[0], 4e-3)


def test_older_names_of_prefill(draw):
    pages, q = Pages(draw), draw(sum(QO), HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    wrapper.begin_forward(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
    options = dict(causal=True, window_left=2, logits_soft_cap=0.0, sm_scale=0.2, k_scale=2.0, v_scale=3.0)
    expected, expected_lse = pages.expected(q, causal=True, window=2, scale=0.4)
    close(wrapper.forward(q, pages.cache, use_fp16_qk_reduction=True, **options), 3.0 * expected, 3e-3)
    close(wrapper.forward_return_lse(q, pages.cache, **options)[1], expected_lse, 3e-4)
    rotary = dict(pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3)
    close(wrapper.forward(q, pages.cache, **rotary), pages.expected(q, rope=(2.0, 5e3))[0], 3e-3)
    wrapper.end_forward()
    wrapper.reset_workspace_buffer(workspace(), workspace())
    sizes = wrapper.workspace_size(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, causal=True)
    assert min(sizes) > 0 and all(isinstance(n, int) for n in sizes)


DECODE = {
    "plain": ({}, {}, {}),
    "window": (dict(window_left=2, sm_scale=0.2), dict(window=2, scale=0.2), {}),
    "cap": (dict(logits_soft_cap=1.5, q_data_type="float16", kv_data_type="float16"), dict(cap=1.5), {}),
    "rotary": (dict(pos_encoding_mode="ROPE_LLAMA", rope_scale=2.0, rope_theta=5e3), dict(rope=(2.0, 5e3)), {}),
    "split": (dict(fixed_split_size=4, seq_lens=torch.tensor(KV)), {}, dict(use_tensor_cores=True)),
    "no split": (
        dict(disable_split_kv=True, o_data_type=BF, block_tables=None, non_blocking=False),
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
    o, lse = wrapper.run(q, pages.cache, return_lse=True, q_len_per_req=1, enable_pdl=True)
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
    flashinfer.fast_decode_plan(wrapper, *pages.arrays, HEADS, KV_HEADS, DIM, 1, global_override_indptr_cpu=pages.indptr)
    close(wrapper.run(q, pages.cache), expected, 3e-3)
    options = dict(window_left=2, logits_soft_cap=0.0, sm_scale=0.2, q_scale=2.0, k_scale=0.5, v_scale=3.0)
    expected, expected_lse = pages.expected(q, [1, 1, 1], window=2, scale=0.2)
    close(wrapper.forward(q, pages.cache, **options), 3.0 * expected, 3e-3)
    close(wrapper.forward_return_lse(q, pages.cache, **{**options, "logits_soft_cap": -1.0})[1], expected_lse, 3e-4)


def test_decode_of_several_tokens(draw):
    pages, q = Pages(draw), draw(6, HEADS, DIM)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), use_tensor_cores=True)
    wrapper.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, q_len_per_req=2, data_type="float16", q_data_type=None)
    out, base, sinks = torch.empty_like(q), torch.empty(6, HEADS), torch.zeros(HEADS)
    wrapper.run(q, pages.cache, out=out, lse=base, sinks=sinks, q_scale=2.0, k_scale=0.5, v_scale=2.0, window_left=5)
    expected, expected_lse = pages.expected(q, [2, 2, 2], causal=True, sinks=sinks, window=5)
    close(out, 2.0 * expected, 4e-3)
    close(base, expected_lse, 4e-4)


def buffers(batch, pages):
    return [torch.zeros(n, dtype=torch.int32) for n in (batch + 1, pages, batch)]


def test_decode_in_buffers(draw):
    """One wrapper, planned anew each step; pages are read from the buffers, as a captured graph would."""
    indptr, indices, last = buffers(3, 16)
    wrapper = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(workspace(), indptr, indices, last, use_tensor_cores=True)
    assert wrapper.is_cuda_graph_enabled
    q = draw(3, HEADS, DIM)
    for step, lens in enumerate((KV, [1, 30, 7], [5, 5, 5])):
        pages = Pages(draw, lens)
        if step < 2:
            wrapper.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
        else:
            indices[: len(pages.indices)] = pages.indices
            flashinfer.fast_decode_plan(
                *(wrapper, pages.indptr, indices[: len(pages.indices)], pages.last, HEADS, KV_HEADS, DIM, PAGE),
                q_data_type="float16",
                kv_data_type="float16",
                data_type="float16",
                global_override_indptr_cpu=pages.indptr,
            )
        close(wrapper.run(q, pages.cache), pages.expected(q, [1, 1, 1])[0], 3e-3)
    refused(
        r"indices: has 17 entries; allowed: at most 16", wrapper.plan, *Pages(draw, [4, 4, 60]).arrays, HEADS, KV_HEADS, DIM, PAGE
    )
    refused(r"batch size: is 2; allowed: 3", wrapper.plan, *Pages(draw, [4, 4]).arrays, HEADS, KV_HEADS, DIM, PAGE)
    refused(r"q_len_per_req: is 2; allowed: 1", wrapper.plan, *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, q_len_per_req=2)


def test_prefill_in_buffers(draw):
    rows, arrays = torch.zeros(4, dtype=torch.int32), buffers(3, 16)
    bits, begins = torch.zeros(64, dtype=torch.uint8), torch.zeros(4, dtype=torch.int32)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), "NHD", True, rows, *arrays, bits, begins)
    masked = dict(causal=False)
    for qo in (QO, [1, 2, 3], [4, 4, 0]):
        pages, q = Pages(draw), draw(sum(qo), HEADS, DIM)
        masks = [torch.rand(n, keys, generator=draw.generator) < 0.5 for n, keys in zip(qo, KV, strict=True)]
        flat = torch.cat([mask.flatten() for mask in masks])
        wrapper.plan(offsets(qo), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, custom_mask=flat, **masked)
        o, lse = wrapper.run(q, pages.cache, return_lse=True)
        expected, expected_lse = pages.expected(q, qo, masks)
        close(o, expected, 3e-3)
        close(lse, expected_lse, 3e-4)
        assert rows.tolist() == offsets(qo).tolist() and arrays[0].tolist() == pages.indptr.tolist()
    refused(
        r"qo_indptr: ends with 9 rows; allowed: at most 8",
        wrapper.plan,
        offsets([3, 3, 3]),
        *pages.arrays,
        HEADS,
        KV_HEADS,
        DIM,
        PAGE,
    )


def test_ragged_in_buffers(draw):
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(
        workspace(), use_cuda_graph=True, qo_indptr_buf=torch.zeros(4).int(), kv_indptr_buf=torch.zeros(4).int()
    )
    for qo, kv in ((QO, KV), ([1, 2, 3], [9, 2, 3])):
        q, k, v = draw(sum(qo), HEADS, DIM), draw(sum(kv), KV_HEADS, DIM), draw(sum(kv), KV_HEADS, DIM)
        wrapper.plan(offsets(qo), offsets(kv), HEADS, KV_HEADS, DIM, causal=True)
        parts = []
        for i in range(3):
            a, b = sum(qo[:i]), sum(kv[:i])
            parts.append(attend(q[a : a + qo[i]], k[b : b + kv[i]], v[b : b + kv[i]], causal=True)[0])
        close(wrapper.run(q, k, v), torch.cat(parts), 3e-3)
    refused(
        r"kv_indptr: ends with 36 rows; allowed: at most 35", wrapper.plan, offsets(QO), offsets([10, 5, 21]), HEADS, KV_HEADS, DIM
    )


def test_decode_replayed(draw):
    """Captured once with the longest batch; plans after it are seen, as are new pages, queries and keys in the same memory."""
    indptr, indices, last = buffers(3, 24)
    wrapper = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(workspace(), indptr, indices, last)
    first = Pages(draw, [30, 30, 30])
    q, cache = draw(3, HEADS, DIM), torch.zeros(40, *first.cache.shape[1:]).half()
    wrapper.plan(*first.arrays, HEADS, KV_HEADS, DIM, PAGE, logits_soft_cap=1.5)
    captured = CUDAGraph()
    with graph(captured):
        o, lse = wrapper.run(q, cache, return_lse=True, v_scale=2.0, sinks=torch.zeros(HEADS))
    for lens in (KV, [1, 30, 7], [30, 30, 30]):
        pages = Pages(draw, lens)
        cache[: len(pages.cache)] = pages.cache
        q.copy_(draw(3, HEADS, DIM))
        wrapper.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, logits_soft_cap=1.5)
        captured.replay()
        expected, expected_lse = pages.expected(q, [1, 1, 1], cap=1.5, sinks=torch.zeros(HEADS))
        close(o, 2.0 * expected, 4e-3)
        close(lse, expected_lse, 4e-4)


def test_masked_prefill_replayed(draw):
    rows, arrays = torch.zeros(4, dtype=torch.int32), buffers(3, 16)
    bits, begins = torch.zeros(64, dtype=torch.uint8), torch.zeros(4, dtype=torch.int32)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), "NHD", True, rows, *arrays, bits, begins)
    pages, q, captured = Pages(draw), draw(sum(QO), HEADS, DIM), CUDAGraph()
    for step, qo in enumerate((QO, [1, 2, 3], [4, 4, 0])):
        masks = [torch.rand(n, keys, generator=draw.generator) < 0.5 for n, keys in zip(qo, KV, strict=True)]
        flat = torch.cat([mask.flatten() for mask in masks])
        wrapper.plan(offsets(qo), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, custom_mask=flat, window_left=5)
        if step == 0:
            with graph(captured):
                o = wrapper.run(q, pages.cache)
        captured.replay()
        close(o[: sum(qo)], pages.expected(q, qo, masks, window=5)[0], 3e-3)


@pytest.mark.parametrize("in_buffers", [False, True])
def test_cascade(draw, in_buffers):
    """16 tokens of all requests, then those of each."""
    shared, own, q = 16, [5, 9, 3], draw(6, HEADS, DIM)
    pages = Pages(draw, [shared, *own])
    qo = [2, 3, 1]
    keys, values = pages.keys, pages.values
    parts = []
    for i, n in enumerate(qo):
        a = sum(qo[:i])
        k, v = (torch.cat((x[0], x[i + 1])) for x in (keys, values))
        parts.append(attend(q[a : a + n], k, v, causal=True, scale=0.2)[0])
    level = [offsets([6]), offsets(qo)]
    indptr = [pages.indptr[:2], pages.indptr[1:] - pages.indptr[1]]
    indices = [pages.indices[: indptr[0][1]], pages.indices[indptr[0][1] :]]
    last = [pages.last[:1], pages.last[1:]]
    given = {}
    if in_buffers:
        names = ("qo_indptr_buf_arr", "paged_kv_indptr_buf_arr", "paged_kv_indices_buf_arr", "paged_kv_last_page_len_buf_arr")
        given = {
            name: [torch.zeros_like(x) for x in array] for name, array in zip(names, (level, indptr, indices, last), strict=True)
        }
    wrapper = flashinfer.MultiLevelCascadeAttentionWrapper(2, workspace(), "NHD", in_buffers, **given)
    assert wrapper.is_cuda_graph_enabled == in_buffers
    wrapper.plan(
        *(level, indptr, indices, last, HEADS, KV_HEADS, DIM, PAGE, True),
        pos_encoding_mode="NONE",
        use_fp16_qk_reduction=True,
        sm_scale=0.2,
        window_left=-1,
        logits_soft_cap=None,
        q_data_type="float16",
        kv_data_type=torch.float16,
    )
    close(wrapper.run(q, pages.cache), torch.cat(parts), 3e-3)
    assert torch.equal(wrapper.forward(q, pages.cache), wrapper.run(q, pages.cache))
    wrapper.reset_workspace_buffer(workspace(), [workspace(), workspace()])
    refused(
        r"qo_indptr_arr: has 1 entries; allowed: 2",
        wrapper.begin_forward,
        level[:1],
        indptr,
        indices,
        last,
        HEADS,
        KV_HEADS,
        DIM,
        PAGE,
    )


@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_a_shared_prefix(draw, layout):
    """13 keys that lie apart, then those of each request."""
    pages, q = Pages(draw, layout=layout), draw(sum(QO), HEADS, DIM)
    k, v = draw(13, KV_HEADS, DIM), draw(13, KV_HEADS, DIM)
    shared = [x if layout == "NHD" else x.transpose(0, 1).contiguous() for x in (k, v)]
    pages.keys = [torch.cat((k.double(), x)) for x in pages.keys]
    pages.values = [torch.cat((v.double(), x)) for x in pages.values]
    prefill = flashinfer.BatchPrefillWithSharedPrefixPagedKVCacheWrapper(workspace(), layout)
    prefill.begin_forward(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
    options = dict(causal=True, use_fp16_qk_reduction=True, sm_scale=0.2, rope_scale=1.0, rope_theta=1e4)
    close(prefill.forward(q, *shared, pages.cache, **options), pages.expected(q, causal=True, scale=0.2)[0], 3e-3)
    decode = flashinfer.BatchDecodeWithSharedPrefixPagedKVCacheWrapper(workspace(), layout)
    decode.begin_forward(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, data_type="float16")
    close(decode.forward(q[:3], *shared, pages.cache), pages.expected(q[:3], [1, 1, 1])[0], 3e-3)
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


def refused(match, call, *args, **given):
    with pytest.raises(lathe.SpecError, match=match):
        call(*args, **given)


def test_refusals(draw):
    pages, q = Pages(draw), draw(sum(QO), HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    plan = (offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
    refused(r"max_item_len_ptr: is a tensor", wrapper.plan, *plan, max_item_len_ptr=torch.ones(2))
    refused(r"have 4, 3, 3 entries; allowed: n \+ 1, n \+ 1, n", wrapper.plan, plan[0], plan[1][:3], *plan[2:])
    refused(r"seq_lens: differs", wrapper.plan, *plan, seq_lens=torch.tensor([1, 2, 3]))
    refused(r"seq_lens_q: differs", wrapper.plan, *plan, seq_lens_q=torch.tensor([1, 2, 3]))
    far = pages.arrays[1].long() + 2**32  # the same numbers in the low 32 bits
    refused(r"paged_kv_indices: holds \d+\.\.\d+; allowed: numbers of 32", wrapper.plan, *plan[:2], far, *plan[3:])
    wrapper.plan(*plan)
    refused(r"kv_cache_sf", wrapper.run, q, pages.cache, kv_cache_sf=(q, q))
    refused(r"skip_softmax_threshold_scale_factor: is 0.5", wrapper.run, q, pages.cache, skip_softmax_threshold_scale_factor=0.5)
    refused(r"uses_spcompress: is True", wrapper.run, q, pages.cache, uses_spcompress=True)
    refused(r"paged_kv_cache: has the shape", wrapper.run, q, pages.cache[:, 0])
    refused(r"paged_kv_cache: is a list|paged_kv_cache: is a str", wrapper.run, q, "cache")
    refused(r"k: has pages of 2 tokens; allowed: 4", wrapper.run, q, pages.cache[:, :, :2])
    refused(r"lse: is torch.float16", wrapper.run, q, pages.cache, lse=q[..., 0])
    refused(r"sinks: is torch.float32 \[3\]", wrapper.run, q, pages.cache, sinks=torch.zeros(3))
    with pytest.raises(RuntimeError, match=r"k: .*stride"):
        wrapper.run(q, torch.zeros(*pages.cache.shape[:-1], 2 * DIM).half()[..., ::2])
    decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace())
    step = (*pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
    refused(r"indices: holds \d+\.\.\d+; allowed: numbers of 32", decode.plan, step[0], far, *step[2:])
    refused(r"plan: was not called before", flashinfer.fast_decode_plan, decode, *step)
    refused(r"window_right: is 1; allowed: 0", decode.plan, *step, window_right=1)
    refused(r"q_len_per_req: is 2; allowed: 1", decode.plan, *step, q_len_per_req=2)
    refused(r"fixed_split_size: is 4; allowed: None", decode.plan, *step, fixed_split_size=4)
    refused(r"indptr: has 3 entries; allowed: 4", decode.plan, pages.indptr[:3], *step[1:])
    captured = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper
    refused(r"paged_kv_indptr_buffer: has 4 entries; allowed: 3", captured, workspace(), *(torch.zeros(n) for n in (4, 9, 2)))
    with pytest.raises(TypeError, match="two values for window_left"):
        decode.plan(*step, "NONE", 3, window_left=3)
    tokens, places = draw(2, KV_HEADS, DIM), i32(0, 1)
    append, order = flashinfer.append_paged_kv_cache, (pages.indices, pages.indptr, pages.last)
    refused(
        r"append_key: has elements of torch.bfloat16", append, tokens.to(BF), tokens, places, places, pages.cache, *pages.arrays
    )
    refused(r"append_value: has the shape \[2, 1, 64\]", append, tokens, tokens[:, :1], places, places, pages.cache, *order)
    refused(r"positions: is torch.int64", flashinfer.get_batch_indices_positions, i32(0, 1), i32(1), 1, None, torch.zeros(1).long())
