"""Other people's attention on the same workload, and the ceilings of the machine, through PyTorch.

Runs as a program of its own, so that a crash or a compiler that takes too long costs one figure:
python3 -m gauntlet_lib.peers <what> [<row>] prints one JSON object.

Every peer gets its best case: contiguous K and V, masks prepared before the clock starts.
"""

import json
import sys

from gauntlet_lib.rows import Row, row_by_id

WARMUP, REPEATS, FLUSH_BYTES = 5, 30, 256 << 20
SDPA = {"sdpa-flash": "FLASH_ATTENTION", "sdpa-cudnn": "CUDNN_ATTENTION", "sdpa-efficient": "EFFICIENT_ATTENTION"}
PEERS = (*SDPA, "flex")


class Refused(Exception):
    """The peer does not offer this workload."""


def median_us(torch, call) -> dict:
    """Time of `call` on the device: caches flushed before each, all queued before the first is waited for."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    for _ in range(WARMUP):
        call()
    torch.cuda.synchronize()
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(REPEATS)]
    for start, stop in pairs:
        flush.zero_()
        start.record()
        call()
        stop.record()
    torch.cuda.synchronize()
    times = sorted(1000 * start.elapsed_time(stop) for start, stop in pairs)
    return {"median": times[len(times) // 2], "p10": times[len(times) // 10], "p90": times[len(times) * 9 // 10], "n": len(times)}


def ceilings(torch) -> dict:
    """Bytes per second of a large copy (read and written), and bf16 FLOP per second of a large product, on random data."""
    a = torch.randn(1 << 30, device="cuda", dtype=torch.bfloat16)
    b = torch.empty_like(a)
    copy = median_us(torch, lambda: b.copy_(a))
    n = 8192
    x, y = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = median_us(torch, lambda: x @ y)
    return {
        "bytes_per_s": 2 * a.numel() * a.element_size() / copy["median"] * 1e6,
        "flop_per_s": 2 * n**3 / product["median"] * 1e6,
        "how": "measured: copy of 2 GiB, product 8192^3 in bf16, random data",
        "torch": torch.__version__,
    }


def dense(torch, row: Row):
    """q, k, v [batch, heads, tokens, dim] where every request has the same lengths."""
    batch, qo, kv = len(row.qo_lens), row.qo_lens[0], row.kv_lens[0]
    make = lambda heads, n: torch.randn(batch, heads, n, row.head_dim, device="cuda", dtype=torch.bfloat16)  # noqa: E731
    return make(row.qo_heads, qo), make(row.kv_heads, kv), make(row.kv_heads, kv)


def uniform(row: Row) -> bool:
    return len(set(row.qo_lens)) == 1 and len(set(row.kv_lens)) == 1


def sdpa_call(torch, row: Row):
    """A call of scaled_dot_product_attention that does what `row` asks, and what had to be done to fit it in."""
    attention = torch.nn.functional.scaled_dot_product_attention
    if uniform(row):
        q, k, v = dense(torch, row)
        causal = row.qo_lens[0] > 1
        try:
            attention(q, k, v, is_causal=causal, enable_gqa=True)
            return lambda: attention(q, k, v, is_causal=causal, enable_gqa=True), ""
        except RuntimeError:
            k, v = (t.repeat_interleave(row.group, 1) for t in (k, v))
            return lambda: attention(q, k, v, is_causal=causal), "K and V repeated for each query head"
    if all(n == 1 for n in row.qo_lens):
        return jagged_decode(torch, row), "nested tensors, K and V repeated for each query head"
    # A causal mask is aligned at the top left here, so a prefill and decodes cannot share a call.
    prefill = Row("", "", row.kv_heads, row.group, row.head_dim, row.qo_lens[:1], row.kv_lens[:1], "")
    decode = Row("", "", row.kv_heads, row.group, row.head_dim, row.qo_lens[1:], row.kv_lens[1:], "")
    (first, note), (second, other) = sdpa_call(torch, prefill), sdpa_call(torch, decode)

    def both():
        first()
        second()

    return both, "; ".join(filter(None, ("two calls: prefill, decodes", note or other)))


def jagged_decode(torch, row: Row):
    nested = lambda lens: torch.nested.nested_tensor(  # noqa: E731
        [torch.randn(n, row.qo_heads, row.head_dim, device="cuda", dtype=torch.bfloat16) for n in lens], layout=torch.jagged
    ).transpose(1, 2)
    q, k, v = nested(row.qo_lens), nested(row.kv_lens), nested(row.kv_lens)
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)


def sdpa(torch, row: Row, backend: str) -> dict:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    try:
        with sdpa_kernel([getattr(SDPBackend, SDPA[backend])]), torch.no_grad():
            call, note = sdpa_call(torch, row)
            call()
            torch.cuda.synchronize()
            return {"us": median_us(torch, call), "note": note}
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise Refused(str(error).splitlines()[0]) from error


def flex(torch, row: Row) -> dict:
    """All requests as one sequence; the mask says which keys belong to which query."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def owners(lens):
        return torch.repeat_interleave(torch.arange(len(lens), device="cuda"), torch.tensor(lens, device="cuda"))

    def places(lens):
        return torch.cat([torch.arange(n, device="cuda") for n in lens])

    q_owner, k_owner = owners(row.qo_lens), owners(row.kv_lens)
    shift = torch.tensor([kv - qo for qo, kv in zip(row.qo_lens, row.kv_lens, strict=True)], device="cuda")
    q_place, k_place = places(row.qo_lens) + shift[q_owner], places(row.kv_lens)

    def visible(b, h, i, j):
        return (q_owner[i] == k_owner[j]) & (k_place[j] <= q_place[i])

    make = lambda heads, n: torch.randn(1, heads, n, row.head_dim, device="cuda", dtype=torch.bfloat16)  # noqa: E731
    qo, kv = sum(row.qo_lens), sum(row.kv_lens)
    q, k, v = make(row.qo_heads, qo), make(row.kv_heads, kv), make(row.kv_heads, kv)
    try:
        mask = torch.compile(create_block_mask)(visible, None, None, qo, kv, device="cuda")
        compiled = torch.compile(flex_attention, dynamic=False)
        call = lambda: compiled(q, k, v, block_mask=mask, enable_gqa=True)  # noqa: E731
        with torch.no_grad():
            call()
            torch.cuda.synchronize()
            return {"us": median_us(torch, call), "note": "one sequence with a block mask, contiguous K and V"}
    except Exception as error:  # torch.compile raises whatever its back-ends raise
        raise Refused(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error


def main(arguments: list[str]) -> dict:
    try:
        import torch
    except ImportError as error:
        return {"status": "skipped", "reason": f"no PyTorch: {error}"}
    if not torch.cuda.is_available():
        return {"status": "skipped", "reason": "PyTorch finds no GPU"}
    torch.manual_seed(1)
    try:
        if arguments[0] == "ceilings":
            return {"status": "ok", **ceilings(torch)}
        row = row_by_id(arguments[1])
        result = flex(torch, row) if arguments[0] == "flex" else sdpa(torch, row, arguments[0])
        return {"status": "ok", "torch": torch.__version__, **result}
    except Refused as reason:
        return {"status": "refused", "reason": str(reason)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
