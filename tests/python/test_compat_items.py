"""lathe.compat.flashinfer against attention in fp64: many items scored at once, behind one prefix."""

import pytest

torch = pytest.importorskip("torch")
import lathe.compat.flashinfer as flashinfer  # noqa: E402
from attention_f64 import attend, close  # noqa: E402
from compat_cases import DIM, HEADS, KV_HEADS, PAGE, ROTARY, TURNED, Pages, buffers, i32, meta, offsets, refused, workspace  # noqa: E402
from devices import capture  # noqa: E402

pytestmark = pytest.mark.usefixtures("recorded")

# Of three requests: keys before the items, and tokens of each item. Each item is behind a delimiter, and one more ends the request.
PREFIX, ITEMS = [5, 0, 9], [[3, 2, 4], [1], [20, 1]]
KV = [prefix + sum(items) + len(items) + 1 for prefix, items in zip(PREFIX, ITEMS, strict=True)]
QO = [KV[0], KV[1], KV[2] - 4]  # of the last one, four tokens were there before


def places(items):
    """Of each token its place in its item: [3, 2, 4] gives 0 1 2 3 0 1 2 0 1 2 3 4 0."""
    return [place for n in items for place in range(n + 1)] + [0]


def arguments(prefix=PREFIX, items=ITEMS, padded=33):
    rows = [places(own) + [0] * (padded - len(places(own))) for own in items]
    return dict(
        prefix_len_ptr=torch.tensor(prefix).to(torch.uint32),
        token_pos_in_items_ptr=torch.tensor(sum(rows, [])).to(torch.uint16),
        token_pos_in_items_len=padded,
        max_item_len_ptr=torch.tensor([max(own) for own in items]).to(torch.uint16),
    )


def seen(prefix, items, rows, keys):
    """From what scoring means: each item as if it were alone behind the prefix. Delimiters belong to no item and see the prefix."""
    item_of = [-1] * prefix + [i if place else -2 for i, n in enumerate(items) for place in range(n + 1)] + [-2]
    mask = torch.zeros(rows, keys, dtype=torch.bool)
    for row in range(rows):
        at = row + keys - rows
        for key in range(at + 1):
            mask[row, key] = key < prefix or (item_of[at] >= 0 and item_of[key] == item_of[at])
    return mask


MASKS = [seen(*case) for case in zip(PREFIX, ITEMS, QO, KV, strict=True)]
CASES = {
    "plain": ({}, {}),
    "window": (dict(window_left=6), dict(window=6)),
    "options": (dict(logits_soft_cap=1.5, sm_scale=0.2, causal=True), dict(cap=1.5, scale=0.2)),
    "rotary": (ROTARY, TURNED),
    "no split": (dict(disable_split_kv=True), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_pages(draw, name):
    given, means = CASES[name]
    pages, q = Pages(draw, KV), draw(sum(QO), HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, **given, **arguments())
    o, lse = wrapper.run(q, pages.cache, return_lse=True)
    expected, expected_lse = pages.expected(q, QO, MASKS, **means)
    close(o, expected, 3e-3)
    close(lse, expected_lse, 3e-4)
    # Without items, and with each place one lower, rows see something else.
    assert (pages.expected(q, QO, causal=True, **means)[0] - expected).abs().max() > 0.1
    if name == "plain":
        close(wrapper.run(q, pages.cache, window_left=3), pages.expected(q, QO, MASKS, window=3)[0], 3e-3)
        wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, causal=True)
        close(wrapper.run(q, pages.cache), pages.expected(q, QO, causal=True)[0], 3e-3)


def test_ragged(draw):
    q, k, v = draw(sum(QO), HEADS, DIM), draw(sum(KV), KV_HEADS, DIM), draw(sum(KV), KV_HEADS, DIM)
    wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace())
    wrapper.plan(offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM, **arguments())
    parts = []
    for i, mask in enumerate(MASKS):
        a, b = sum(QO[:i]), sum(KV[:i])
        parts.append(attend(q[a : a + QO[i]], k[b : b + KV[i]], v[b : b + KV[i]], mask=mask)[0])
    close(wrapper.run(q, k, v), torch.cat(parts), 3e-3)


def test_one_request(draw):
    """As FlashInfer's tests give it: the prefix as a number, places without padding."""
    items, prefix, q = [16, 18], 17, draw(37, HEADS, DIM)
    pages = Pages(draw, [54])
    given = arguments([prefix], [items], padded=37)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    given |= dict(prefix_len_ptr=given["prefix_len_ptr"][0], token_pos_in_items_len=100)
    wrapper.plan(offsets([37]), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
    close(wrapper.run(q, pages.cache), pages.expected(q, [37], [seen(prefix, items, 37, 54)])[0], 3e-3)


def test_replayed(draw):
    """Other items of as many rows, in one graph; no buffer of a mask is needed."""
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace(), "NHD", True, i32(0, 0, 0, 0), *buffers(3, 24))
    pages, q = Pages(draw, KV), draw(sum(QO), HEADS, DIM)
    others = (PREFIX, ITEMS), ([3, 1, 2], [[3, 4, 4], [0], [4, 3, 6, 12, 0]]), (PREFIX, ITEMS)
    for step, (prefix, items) in enumerate(others):
        given = arguments(prefix, items)
        wrapper.plan(offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE, **given)
        if step == 0:
            captured, o = capture(lambda: wrapper.run(q, pages.cache))
        captured.replay()
        masks = [seen(*case) for case in zip(prefix, items, QO, KV, strict=True)]
        close(o, pages.expected(q, QO, masks)[0], 3e-3)


def test_workspace_size(draw):
    pages = Pages(draw, KV)
    wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
    plan = offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE
    assert wrapper.workspace_size(*plan, **arguments())[0] > 0
    refused(
        r"^max_item_len_ptr: holds 3 for request 0",
        wrapper.workspace_size,
        *plan,
        **arguments() | dict(max_item_len_ptr=i32(3, 1, 20)),
    )


@pytest.mark.parametrize("ragged", [False, True])
def test_refusals(draw, ragged):
    pages, right = Pages(draw, KV), arguments()
    if ragged:
        wrapper = flashinfer.BatchPrefillWithRaggedKVCacheWrapper(workspace())
        plan = offsets(QO), offsets(KV), HEADS, KV_HEADS, DIM
    else:
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace())
        plan = offsets(QO), *pages.arrays, HEADS, KV_HEADS, DIM, PAGE
    pairs = sum(a * b for a, b in zip(QO, KV, strict=True))
    for match, given in (
        (r"prefix_len_ptr: is None, but token_pos_in_items_ptr is given; allowed: both, or none", dict(prefix_len_ptr=None)),
        (r"prefix_len_ptr: is \[5, 0, 9\]; allowed: a torch.Tensor", dict(prefix_len_ptr=PREFIX)),
        (r"prefix_len_ptr: is on meta; allowed: cpu, cuda", dict(prefix_len_ptr=meta(right["prefix_len_ptr"]))),
        (r"prefix_len_ptr: has elements of torch.float32; allowed: whole numbers", dict(prefix_len_ptr=torch.zeros(3))),
        (r"prefix_len_ptr: has 2 entries; allowed: at least 3", dict(prefix_len_ptr=i32(5, 0))),
        (r"prefix_len_ptr: holds -1; allowed: 0 and more", dict(prefix_len_ptr=i32(5, -1, 9))),
        (r"prefix_len_ptr: holds 19; allowed: at most 18, the keys of request 0", dict(prefix_len_ptr=i32(19, 0, 9))),
        (r"token_pos_in_items_ptr: is None; allowed: a torch.Tensor", dict(token_pos_in_items_ptr=None)),
        (r"token_pos_in_items_ptr: has 80 entries; allowed: at least 90", dict(token_pos_in_items_ptr=torch.zeros(80).int())),
        (r"token_pos_in_items_len: is 20; allowed: 24 or more, .* of request 2", dict(token_pos_in_items_len=20)),
        (r"token_pos_in_items_len: is 'x'; allowed: a whole number", dict(token_pos_in_items_len="x")),
        (r"token_pos_in_items_len: is -1; allowed: 0 and more", dict(token_pos_in_items_len=-1)),
        (r"max_item_len_ptr: is None; allowed: a torch.Tensor", dict(max_item_len_ptr=None)),
        (r"max_item_len_ptr: holds 19 for request 2; allowed: 20 or more", dict(max_item_len_ptr=i32(4, 1, 19))),
        (r"custom_mask: is given; allowed: None, with prefix_len_ptr", dict(custom_mask=torch.ones(pairs, dtype=torch.bool))),
        (r"packed_custom_mask: is given; allowed: None, with", dict(packed_custom_mask=torch.ones(pairs, dtype=torch.uint8))),
    ):
        refused(f"^{match}", wrapper.plan, *plan, **right | given)
    refused(r"^prefix_len_ptr: is None, but max_item_len_ptr is given", wrapper.plan, *plan, max_item_len_ptr=i32(4, 1, 20))
    refused(r"^token_pos_in_items_len: is 3; allowed: 0, without prefix_len_ptr", wrapper.plan, *plan, token_pos_in_items_len=3)
    wrapper.plan(*plan, **right)
