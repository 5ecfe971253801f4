"""lathe.compat.flashinfer against attention in fp64: plans in the buffers of graphs, and replays."""

import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
import lathe.torch  # noqa: E402
from attention_f64 import attend, close  # noqa: E402
from compat_cases import DIM, F8, HEADS, KV, KV_HEADS, PAGE, QO, Pages, buffers, masks_of, offsets, refused, workspace  # noqa: E402
from devices import DEVICE, capture  # noqa: E402

pytestmark = pytest.mark.usefixtures("recorded")


def test_decode_in_buffers(draw):
    """One wrapper, planned anew each step; pages are read from the buffers, as a captured graph would."""
    indptr, indices, last = buffers(3, 16)
    wrapper = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(workspace(), indptr, indices, last, use_tensor_cores=True)
    same = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), "HND", True, False, *buffers(3, 16))
    assert wrapper.is_cuda_graph_enabled and same.is_cuda_graph_enabled
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
                global_override_indptr_cpu=pages.indptr.cpu(),
            )
        o = wrapper.run(q, pages.cache)
        close(o, pages.expected(q, [1, 1, 1])[0], 3e-3)
        same.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE)
        assert torch.equal(same.run(q, pages.cache.transpose(2, 3)), o)
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
        masks = masks_of(draw, qo)
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


@pytest.mark.parametrize("masked", [False, True])
def test_ragged_in_buffers(draw, masked):
    offsets_buffers, mask_buffers = (
        [torch.zeros(4).int() for _ in range(2)],
        [torch.zeros(64, dtype=torch.uint8), torch.zeros(4).int()],
    )
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(
        *(workspace(), "NHD", True, *offsets_buffers), *(mask_buffers if masked else ())
    )
    for qo, kv in ((QO, KV), ([1, 2, 3], [9, 2, 3])):
        q, k, v = draw(sum(qo), HEADS, DIM), draw(sum(kv), KV_HEADS, DIM), draw(sum(kv), KV_HEADS, DIM)
        masks = masks_of(draw, qo, kv) if masked else [None] * 3
        given = dict(custom_mask=torch.cat([mask.flatten() for mask in masks])) if masked else dict(causal=True)
        wrapper.plan(offsets(qo), offsets(kv), HEADS, KV_HEADS, DIM, **given)
        parts = []
        for i in range(3):
            a, b = sum(qo[:i]), sum(kv[:i])
            parts.append(attend(q[a : a + qo[i]], k[b : b + kv[i]], v[b : b + kv[i]], causal=not masked, mask=masks[i])[0])
        close(wrapper.run(q, k, v), torch.cat(parts), 3e-3)
        assert offsets_buffers[1].tolist() == offsets(kv).tolist()
    refused(
        r"kv_indptr: ends with 36 rows; allowed: at most 35", wrapper.plan, offsets(QO), offsets([10, 5, 21]), HEADS, KV_HEADS, DIM
    )


def test_decode_replayed(draw):
    """Captured once with the longest batch; plans after it are seen, as are new pages, queries and keys in the same memory."""
    indptr, indices, last = buffers(3, 24)
    wrapper = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(workspace(), indptr, indices, last, "HND")
    first = Pages(draw, [30, 30, 30], layout="HND")
    q, cache = draw(3, HEADS, DIM), torch.zeros(40, *first.cache.shape[1:]).half()
    wrapper.plan(*first.arrays, HEADS, KV_HEADS, DIM, PAGE, logits_soft_cap=1.5)
    sinks = torch.zeros(HEADS)
    captured, (o, lse) = capture(lambda: wrapper.run(q, cache, return_lse=True, v_scale=2.0, sinks=sinks))
    for lens in (KV, [1, 30, 7], [30, 30, 30]):
        pages = Pages(draw, lens, layout="HND")
        cache[: len(pages.cache)] = pages.cache
        q.copy_(draw(3, HEADS, DIM))
        wrapper.plan(*pages.arrays, HEADS, KV_HEADS, DIM, PAGE, logits_soft_cap=1.5)
        captured.replay()
        expected, expected_lse = pages.expected(q, [1, 1, 1], cap=1.5, sinks=torch.zeros(HEADS))
        close(o, 2.0 * expected, 4e-3)
        close(lse, expected_lse, 4e-4)


def test_runs_with_a_window_of_their_own(draw):
    """Over a mask, whose plan holds the window; what was captured keeps to the plan's."""
    pages, q, masks = Pages(draw), draw(sum(QO), HEADS, DIM), masks_of(draw)
    kept = [torch.zeros(4).int(), *buffers(3, 16), torch.zeros(64, dtype=torch.uint8), torch.zeros(4).int()]
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), "NHD", True, *kept)
    flat = torch.cat([mask.flatten() for mask in masks])
    wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, custom_mask=flat, window_left=12)
    captured, o = capture(lambda: wrapper.run(q, pages.cache))
    for window in (3, 12, 7):
        close(wrapper.run(q, pages.cache, window_left=window), pages.expected(q, QO, masks, window=window)[0], 3e-3)
    captured.replay()
    close(o, pages.expected(q, QO, masks, window=12)[0], 3e-3)


def test_masked_prefill_replayed(draw):
    rows, arrays = torch.zeros(4, dtype=torch.int32), buffers(3, 16)
    bits, begins = torch.zeros(64, dtype=torch.uint8), torch.zeros(4, dtype=torch.int32)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), "NHD", True, rows, *arrays, bits, begins)
    pages, q = Pages(draw), draw(sum(QO), HEADS, DIM)
    for step, qo in enumerate((QO, [1, 2, 3], [4, 4, 0])):
        masks = masks_of(draw, qo)
        flat = torch.cat([mask.flatten() for mask in masks])
        wrapper.plan(offsets(qo), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, custom_mask=flat, window_left=5)
        if step == 0:
            captured, o = capture(lambda: wrapper.run(q, pages.cache))
        captured.replay()
        close(o[: sum(qo)], pages.expected(q, qo, masks, window=5)[0], 3e-3)


@pytest.mark.skipif(DEVICE != "cpu", reason="plans do not wait for masks of a GPU")
def test_a_plan_sees_its_own_mask(draw, monkeypatch):
    """An envelope is planned with the new bits, which the buffer has only when nothing is refused any more."""
    seen = []
    plan = lathe.torch.Envelope.plan
    monkeypatch.setattr(
        lathe.torch.Envelope, "plan", lambda *a, tensors, **k: (seen.append(tensors), plan(*a, tensors=tensors, **k))
    )
    bits = torch.zeros(64, dtype=torch.uint8)
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(
        *(workspace(), "NHD", True, torch.zeros(4).int(), torch.zeros(4).int(), bits, torch.zeros(4).int())
    )
    for _ in range(2):
        flat = torch.cat([mask.flatten() for mask in masks_of(draw)])
        wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, custom_mask=flat)
        given = seen[-1]["mask_bits"]
        assert given.data_ptr() != bits.data_ptr() and torch.equal(given, bits[: len(given)])


WORKSPACE = dict(
    pos_encoding_mode="ROPE_LLAMA",
    rope_scale=2.0,
    rope_theta=5e3,
    window_left=2,
    sm_scale=0.2,
    logits_soft_cap=1.5,
    q_data_type="bfloat16",
    o_data_type="float16",
    seq_lens=torch.tensor(KV),
    block_tables=torch.zeros(3, 6),
)


def planned(wrapper):
    """What a plan comes to."""
    mask = wrapper._batch.mask_bits
    return wrapper._features(wrapper._shape), wrapper._numbers(wrapper._shape, wrapper._window_left, 1.0), wrapper._batch.rows, mask


@pytest.mark.parametrize(
    "given",
    [
        dict(q_len_per_req=2, fixed_split_size=4, **WORKSPACE),
        dict(disable_split_kv=True),
        dict(data_type="bfloat16", q_data_type=None),
        dict(kv_data_type=F8),
    ],
)
def test_workspace_size_of_decode(draw, monkeypatch, given):
    """That of the batch which plan() makes of the same arguments; the wrapper's own plan stays."""
    arguments = (*Pages(draw).arrays, HEADS, KV_HEADS, DIM, PAGE)
    wrapper, other = (flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), use_tensor_cores=True) for _ in range(2))
    wrapper.plan(*arguments)
    before = planned(wrapper)
    sizes = wrapper.workspace_size(*arguments, **given)
    assert sizes[0] > 0 and all(isinstance(n, int) for n in sizes) and planned(wrapper) == before
    other.plan(*arguments, **given)
    assert other._sizes() == sizes
    monkeypatch.setattr(type(wrapper), "_sizes", planned)
    assert wrapper.workspace_size(*arguments, **given) == planned(other) != before


BITS = torch.ones(sum(-(-a * b // 8) for a, b in zip(QO, KV, strict=True)), dtype=torch.uint8)


@pytest.mark.parametrize(
    "given",
    [
        dict(
            causal=True, fixed_split_size=4, seq_lens_q=torch.tensor(QO), max_token_per_sequence=4, max_sequence_kv=21, **WORKSPACE
        ),
        dict(disable_split_kv=True, use_fp16_qk_reduction=True, head_dim_vo=32, kv_data_type=F8),
        dict(custom_mask=torch.ones(sum(a * b for a, b in zip(QO, KV, strict=True)), dtype=torch.bool)),
        dict(packed_custom_mask=BITS),
    ],
)
def test_workspace_size_of_prefill(draw, monkeypatch, given):
    """As of decode."""
    arguments = (offsets(QO), *Pages(draw).arrays, HEADS, KV_HEADS, DIM, PAGE)
    wrapper, other = (flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace()) for _ in range(2))
    wrapper.plan(*arguments)
    before = planned(wrapper)
    sizes = wrapper.workspace_size(*arguments, **given)
    assert sizes[0] > 0 and all(isinstance(n, int) for n in sizes) and planned(wrapper) == before
    other.plan(*arguments, **given)
    assert other._sizes() == sizes
    monkeypatch.setattr(type(wrapper), "_sizes", planned)
    *found, mask = wrapper.workspace_size(*arguments, **given)
    *wanted, other_mask = planned(other)
    assert found == wanted and [*found, mask] != list(before)
    assert (mask is None) == (other_mask is None) and (mask is None or torch.equal(mask, other_mask))


def test_larger_batches_take_more(draw):
    """Workspaces hold a plan, and the partial results of keys that are split."""
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace(), use_tensor_cores=True)
    small, large = (
        wrapper.workspace_size(*Pages(draw, lens).arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
        for lens, given in (([40], dict(disable_split_kv=True)), ([40] * 20, dict(fixed_split_size=4)))
    )
    assert large[0] > small[0] and large[1] >= small[1]
