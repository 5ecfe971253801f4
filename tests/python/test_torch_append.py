"""`lathe.torch.append`: what it writes is what attention reads."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import lathe.torch as lt  # noqa: E402
from devices import DEVICE, traces  # noqa: E402
from lathe.errors import SpecError  # noqa: E402
from reference import attend_batch, worst  # noqa: E402
from torch_batches import draw as draw_f16  # noqa: E402
from torch_batches import host  # noqa: E402

HEADS, DIM, PAGES, PAGE = 2, 64, 6, 8
KV = 29  # tokens of the request, in four pages
TABLE = [4, 1, 5, 2]


def draw(rng, *shape):
    return draw_f16(rng, *shape, dtype=torch.bfloat16)


def cos_sin(positions):
    angles = np.outer(np.arange(positions), 10000.0 ** (-2.0 * np.arange(DIM // 2) / DIM))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def turned(x, positions):
    table = cos_sin(KV)[positions][:, None]
    c, s = table[..., : DIM // 2], table[..., DIM // 2 :]
    a, b = np.split(host(x), 2, axis=-1)
    return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)


def i32(*numbers):
    return torch.tensor(numbers, dtype=torch.int32, device=DEVICE)


@pytest.mark.parametrize("place", ["slots", "csr", "table"])
def test_written_keys_are_those_that_attention_reads(rng, place):
    k, v, q = draw(rng, KV, HEADS, DIM), draw(rng, KV, HEADS, DIM), draw(rng, KV, 2 * HEADS, DIM)
    raw_q = q.clone()
    k_cache, v_cache = (torch.zeros(PAGES, PAGE, HEADS, DIM, dtype=torch.int8) for _ in range(2))
    tables = [torch.full((PAGES, PAGE, HEADS), float("nan")) for _ in range(4)]
    k_scales = {"token_scale": tables[0], "zero": tables[1]}
    v_scales = {"token_scale": tables[2], "zero": tables[3], "scale": 0.5}
    positions = torch.arange(KV, dtype=torch.int32)
    where = {"batch_indices": torch.zeros(KV, dtype=torch.int32)}
    if place == "slots":
        where = {"slot_mapping": torch.tensor([TABLE[i // PAGE] * PAGE + i % PAGE for i in range(KV)])}
    elif place == "csr":
        where |= {"kv_indptr": i32(0, 4), "kv_indices": i32(*TABLE)}
    else:
        where |= {"block_table": i32(*TABLE, 0).reshape(1, 5)}
    table = torch.from_numpy(cos_sin(KV)).to(DEVICE)
    lt.append(k, v, k_cache, v_cache, q=q, positions=positions, cos_sin=table, k_scales=k_scales, v_scales=v_scales, **where)

    rows = np.arange(KV)
    assert worst(host(q), turned(raw_q, rows)) < 5e-3

    def values(cache, scale, zero, factor):
        codes, s, z = (host(t[TABLE].reshape(KV + 3, HEADS, -1)[:KV]) for t in (cache, scale[..., None], zero[..., None]))
        return (codes - z) * s * factor

    keys, stored = values(k_cache, tables[0], tables[1], 1.0), values(v_cache, tables[2], tables[3], 0.5)
    # Within half a step of a range of 255, and a little for its rounded zero.
    for got, expected in ((keys, turned(k, rows)), (stored, host(v))):
        span = np.maximum(expected.max(-1), 0) - np.minimum(expected.min(-1), 0)
        assert np.all(np.abs(got - expected) <= span[..., None] / 255 * 1.01)
    fields = {f"{side}{field}": kind for side in "kv" for field, kind in (("fmt", "i8"), ("scale", "token"), ("zero", "token"))}
    o = lt.attention(
        q,
        k_cache,
        v_cache,
        qo_indptr=[0, KV],
        kv_indptr=[0, 4],
        kv_indices=i32(*TABLE),
        last_page_len=[KV - 3 * PAGE],
        mask="causal",
        k_scales=k_scales,
        v_scales=v_scales,
        **fields,
    )
    expected, _ = attend_batch(host(q), [keys], [stored], [0, KV], mask="causal")
    assert worst(host(o), expected) < 1.2e-2


def test_padding_is_left_alone(rng):
    k, v = draw(rng, 3, HEADS, DIM), draw(rng, 3, HEADS, DIM)
    cache = torch.full((PAGES, 2, PAGE, HEADS, DIM), 7, dtype=torch.bfloat16)
    lt.append(k, v, cache, slot_mapping=torch.tensor([9, -1, 4]))
    assert torch.equal(cache[1, 0, 1], k[0]) and torch.equal(cache[0, 1, 4], v[2])
    assert (cache == 7).sum() >= cache.numel() - 4 * HEADS * DIM


@traces
def test_opcheck(rng):
    k, v = draw(rng, 3, HEADS, DIM), draw(rng, 3, HEADS, DIM)
    caches = [torch.zeros(PAGES, PAGE, HEADS, DIM, dtype=torch.int8) for _ in range(2)]
    tables = [torch.zeros(PAGES, PAGE, HEADS) for _ in range(2)]
    spec = (
        '{"op": "append", "kfmt": "i8", "vfmt": "i8", "kscale": "token", "vscale": "token", "head_dim_qk": 64, '
        '"head_dim_vo": 64, "layout": {"page_size": 8}}'
    )
    scales = (1.0, tables[0], None, None, 1.0, tables[1], None, None)
    torch.library.opcheck(
        torch.ops.lathe.append.default, (None, k, v, *caches, torch.tensor([9, -1, 4]), *[None] * 5, spec, *scales)
    )


def test_refusals(rng):
    k, v = draw(rng, 3, HEADS, DIM), draw(rng, 3, HEADS, DIM)
    cache = torch.zeros(PAGES, 2, PAGE, HEADS, DIM, dtype=torch.bfloat16)
    slots = torch.tensor([0, 1, 2])
    with pytest.raises(SpecError, match="k: has elements of torch.float32"):
        lt.append(k.float(), v, cache, slot_mapping=slots)
    with pytest.raises(SpecError, match="k_cache: has elements of torch.float64"):
        lt.append(k, v, cache.double(), slot_mapping=slots)
    with pytest.raises(SpecError, match="k_scales: has tokens"):
        lt.append(k, v, cache, slot_mapping=slots, k_scales={"tokens": slots})
    with pytest.raises(RuntimeError, match="slot_mapping: is null|batch_indices: is null"):
        lt.append(k, v, cache)
    with pytest.raises(RuntimeError, match="slot_mapping: must be contiguous and have 3 entries"):
        lt.append(k, v, cache, slot_mapping=slots[:2])
    with pytest.raises(RuntimeError, match="positions: is null"):
        lt.append(k, v, cache, slot_mapping=slots, cos_sin=torch.from_numpy(cos_sin(4)).to(DEVICE))
    with pytest.raises(RuntimeError, match="q: is given, but the spec's rope is none"):
        lt.append(k, v, cache, slot_mapping=slots, q=k.clone())
    with pytest.raises(SpecError, match="requires a gradient"):
        lt.append(k.float().requires_grad_().bfloat16(), v, cache, slot_mapping=slots)
