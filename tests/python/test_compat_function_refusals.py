"""What functions of lathe.compat.flashinfer, and constructors of its wrappers, refuse: states, new tokens, lengths, bits."""

import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from compat_cases import BF, DIM, F8, HEADS, KV_HEADS, Pages, buffers, i32, meta, refused, replaced, workspace  # noqa: E402

pytestmark = pytest.mark.usefixtures("recorded")

Decode = flashinfer.BatchDecodeWithPagedKVCacheWrapper
Paged = flashinfer.BatchPrefillWithPagedKVCacheWrapper
Ragged = flashinfer.BatchPrefillWithRaggedKVCacheWrapper


def test_wrappers():
    refused(r"backend: is 'cudnn'; allowed: auto, fa2", Ragged, workspace(), backend="cudnn")
    refused(r"kv_layout: is 'XYZ'; allowed: NHD, HND", Paged, workspace(), "XYZ")
    refused(r"float_workspace_buffer: is a list; allowed: a torch.Tensor", Decode, [1])
    refused(r"float_workspace_buffer: is on meta; allowed: cpu, cuda", Decode, meta(workspace()))
    refused(r"int_workspace_buffer: is a int; allowed: a torch.Tensor", Decode(workspace()).reset_workspace_buffer, workspace(), 3)
    aside = torch.zeros(32, dtype=torch.uint8)
    aside = aside[8 - aside.data_ptr() % 16 :]
    refused(r"float_workspace_buffer must be 16-byte aligned; its address is 8 modulo 16", Ragged, aside)
    graph = dict(use_cuda_graph=True)
    refused(r"qo_indptr_buf: is a NoneType; allowed: a torch.Tensor", Ragged, workspace(), **graph)
    refused(r"kv_indptr_buf: has 3 entries; allowed: 4", Ragged, workspace(), "NHD", True, i32(0, 0, 0, 0), i32(0, 0, 0))
    refused(r"paged_kv_indptr_buf: is a NoneType; allowed", Paged, workspace(), qo_indptr_buf=i32(0, 0), **graph)
    arrays = [i32(*[0] * n) for n in (4, 4, 16, 2)]
    refused(r"paged_kv_last_page_len_buf: has 2 entries; allowed: 3", Paged, workspace(), "NHD", True, *arrays)
    captured = flashinfer.CUDAGraphBatchDecodeWithPagedKVCacheWrapper
    for spoil, match in (
        (lambda x: x.float(), r"is torch.float32 \[4\] on cpu; allowed: torch.int32"),
        (meta, r"is torch.int32 \[4\] on meta; allowed: .* on cpu"),
        (lambda x: None, r"is a NoneType; allowed: a torch.Tensor"),
        (lambda x: x[:3], r"has 3 entries; allowed: 4"),
    ):
        indptr, *rest = buffers(3, 16)
        refused(rf"paged_kv_indptr_buffer: {match}", captured, workspace(), spoil(indptr), *rest)
    refused(r"num_levels: is 0; allowed: 1 or more", flashinfer.MultiLevelCascadeAttentionWrapper, 0, workspace())
    refused(r"qo_indptr_buf_arr: has 0 entries; allowed: 2", flashinfer.MultiLevelCascadeAttentionWrapper, 2, workspace(), **graph)


def test_states(draw):
    q, s = draw(9, HEADS, DIM), torch.zeros(9, HEADS)
    state, states, in_place = flashinfer.merge_state, flashinfer.merge_states, flashinfer.merge_state_in_place
    refused(r"v_a: is \[1\]; allowed: a torch.Tensor", state, [1], s, q, s)
    refused(r"v_b: requires a gradient; allowed: tensors without", state, q, s, q.clone().requires_grad_(), s)
    refused(r"s_a: requires a gradient; allowed: tensors without", in_place, q, s.clone().requires_grad_(), q, s)
    refused(r"s_b: is on meta; allowed: cpu, cuda", state, q, s, q, meta(s))
    refused(r"v_b: is on meta; allowed: cpu, cuda", in_place, q, s, meta(q), meta(s))
    refused(r"s_a: has elements of torch.int32; allowed: floating-point", state, q, s.int(), q, s)
    refused(r"shapes of v_a and s_a: \[9, 4, 64\] and \[9, 3\]; allowed: 3 dimensions", state, q, s[:, :3], q, s)
    refused(r"v_b: is torch.bfloat16 .*; allowed: torch.float16 \[9, 4, 64\]", state, q, s, q.to(BF), s)
    refused(r"shapes of v and s: \[9, 4, 64\] and \[9, 4\]; allowed: 4 dimensions", states, q, s)
    refused(r"v: is on meta; allowed: cpu, cuda", states, meta(q[None]), s[None])
    refused(r"mask: is torch.uint8 \[9\]; allowed: torch.bool \[9\]", in_place, q, s, q, s, mask=torch.ones(9, dtype=torch.uint8))
    refused(r"mask: is on meta; allowed", in_place, q, s, q, s, mask=torch.ones(9, device="meta").bool())


@pytest.mark.parametrize("dtype", [torch.float16, F8])
def test_append(draw, dtype):
    pages, tokens, places = Pages(draw, dtype=dtype), draw(2, KV_HEADS, DIM).to(dtype), i32(0, 1)
    append, given = (
        flashinfer.append_paged_kv_cache,
        (tokens, tokens, places, places, pages.cache, pages.indices, pages.indptr, pages.last),
    )
    names = (
        "append_key",
        "append_value",
        "batch_indices",
        "positions",
        "paged_kv_cache",
        "kv_indices",
        "kv_indptr",
        "kv_last_page_len",
    )
    for index, name in enumerate(names):
        refused(rf"{name}: (is \[1\]|is a list); allowed: a (torch.T|t)ensor", append, *replaced(given, index, [1]))
        refused(rf"{name}.*: is on meta; allowed: cpu, cuda", append, *replaced(given, index, meta(given[index])))
    refused(r"append_key: has elements of torch.bfloat16; allowed: torch.f", append, *replaced(given, 0, tokens.to(BF)))
    refused(r"append_value: has the shape \[2, 1, 64\]; allowed: \[2, 2, 64\]", append, *replaced(given, 1, tokens[:, :1]))
    refused(r"append_value: has the shape \[1, 2, 64\]; allowed: \[2, 2, 64\]", append, *replaced(given, 1, tokens[:1]))
    refused(r"batch_indices: is torch.int32 \[1\] on cpu; allowed: torch.int32 \[2\]", append, *replaced(given, 2, places[:1]))
    refused(r"positions: is torch.int64 \[2\] on cpu; allowed: torch.int32 \[2\]", append, *replaced(given, 3, places.long()))
    refused(r"kv_indices: has elements of torch.float32; allowed: whole", append, *replaced(given, 5, pages.indices.float()))
    refused(r"kv_layout: is 'NDH'; allowed: NHD, HND", append, *given, kv_layout="NDH")
    refused(r"append_key: requires a gradient", append, *replaced(given, 0, draw(2, KV_HEADS, DIM).to(dtype).requires_grad_()))
    if dtype == F8:  # others are stored by a kernel, whose executor finds them
        refused(r"batch_indices: holds 7; allowed: below 3", append, *replaced(given, 2, i32(0, 7)))
        refused(r"positions: holds places beyond", append, *replaced(given, 3, i32(0, 50)))


def test_lengths_and_bits():
    where, lens = flashinfer.get_batch_indices_positions, flashinfer.get_seq_lens
    for wrong, match in (
        ([0, 1], r"is \[0, 1\]; allowed: a torch.Tensor"),
        (meta(i32(0, 1)), "is on meta; allowed: cpu, cuda"),
        (torch.zeros(2), "has elements of torch.float32; allowed: whole numbers"),
        (i32(0, 1)[None], r"has the shape \[1, 2\]; allowed: one dimension"),
        (i32(0, 1, 1), "has 3 entries; allowed: 2"),
    ):
        refused(f"append_indptr: {match}", where, wrong, i32(1), 1)
        refused(f"kv_indptr: {match}", lens, wrong, i32(1), 4)
        if match != "has 3 entries; allowed: 2":
            refused(f"indptr: {match}", flashinfer.segment_packbits, torch.ones(3), wrong)
    refused(r"seq_lens: is on meta", where, i32(0, 1), meta(i32(1)), 1)
    refused(r"nnz: is -1; allowed: 0 or more", where, i32(0, 1), i32(1), -1)
    refused(r"nnz: is '1'; allowed: a whole number", where, i32(0, 1), i32(1), "1")
    refused(r"positions: is torch.int64", where, i32(0, 1), i32(1), 1, None, torch.zeros(1).long())
    refused(r"batch_indices: is torch.int32 \[2\] on cpu; allowed: torch.int32 \[1\]", where, i32(0, 1), i32(1), 1, i32(1, 2))
    refused(r"page_size: is 0; allowed: 1 or more", lens, i32(0, 1), i32(1), 0)
    pack, segments = flashinfer.packbits, flashinfer.segment_packbits
    refused(r"bitorder: is 'middle'; allowed: big, little", pack, torch.ones(3), "middle")
    refused(r"x: has the shape \[1, 3\]; allowed: one dimension", pack, torch.ones(1, 3))
    refused(r"x: is \[1\]; allowed: a torch.Tensor", segments, [1], i32(0, 1))
    refused(r"x: is on meta; allowed", pack, torch.ones(3, device="meta"))
    refused(r"indptr: is \[0, 3, 1\] for 4 elements; allowed: from 0 on", segments, torch.ones(4), i32(0, 3, 1))
    refused(r"indptr: is \[0, 30\] for 4 elements; allowed: from 0 on", segments, torch.ones(4), i32(0, 30))
