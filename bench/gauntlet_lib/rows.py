"""The workloads that are timed, with what each must move and compute at least."""

from dataclasses import dataclass, field

BYTES_PER_ELEMENT = 2  # bf16


@dataclass(frozen=True)
class Row:
    """One workload. `layouts` maps a name to the layout field of Lathe's spec, `overrides` such a name to other fields of it."""

    id: str
    title: str
    kv_heads: int
    group: int
    head_dim: int
    qo_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    target: str
    layouts: dict = field(default_factory=dict)
    overrides: dict = field(default_factory=dict)

    @property
    def qo_heads(self) -> int:
        return self.kv_heads * self.group

    def pairs(self) -> int:
        """(query, key) pairs that a causal mask, aligned at the bottom right, leaves visible; of one head."""
        total = 0
        for qo, kv in zip(self.qo_lens, self.kv_lens, strict=True):
            assert qo <= kv, "no row has queries without keys"
            total += qo * kv - qo * (qo - 1) // 2
        return total

    def flop(self) -> int:
        return 4 * self.head_dim * self.qo_heads * self.pairs()

    def bytes(self) -> int:
        """Each of q, k, v read once, o written once."""
        qo = 2 * sum(self.qo_lens) * self.qo_heads * self.head_dim
        kv = 2 * sum(self.kv_lens) * self.kv_heads * self.head_dim
        return BYTES_PER_ELEMENT * (qo + kv)

    def floor_us(self, flops_per_s: float, bytes_per_s: float) -> float:
        return 1e6 * max(self.flop() / flops_per_s, self.bytes() / bytes_per_s)

    def spec(self, layout: str) -> dict:
        return {
            "op": "attention",
            "q_dtype": "bf16",
            "o_dtype": "bf16",
            "head_dim_qk": self.head_dim,
            "head_dim_vo": self.head_dim,
            "group_size": self.group,
            "layout": self.layouts[layout],
            "mask": "causal",
        } | self.overrides.get(layout, {})

    def batch(self) -> dict:
        return {"num_kv_heads": self.kv_heads, "qo_lens": list(self.qo_lens), "kv_lens": list(self.kv_lens)}


RAGGED = {"kind": "ragged"}
PAGE_1 = {"kind": "paged", "page_size": 1, "order": "NHD"}
PAGE_16 = {"kind": "paged", "page_size": 16, "order": "NHD"}
# The same batch without a cut. The peer's uniform chunk would not cut these batches either: their tiles are more than its blocks.
UNCUT = {"page16/no_split": {"split_kv": "off"}}


def zipf(size: int, mean: int) -> tuple[int, ...]:
    """Lengths that fall as 1 / rank, the longest first."""
    harmonic = sum(1 / rank for rank in range(1, size + 1))
    return tuple(1 + int(mean * size / harmonic / rank) for rank in range(1, size + 1))


ROWS = (
    Row(
        "1",
        "prefill 1x8192 causal",
        8,
        4,
        128,
        (8192,),
        (8192,),
        ">= 600 TFLOP/s ragged, 570 paged",
        {"ragged": RAGGED, "page16": PAGE_16},
    ),
    Row("6", "decode B64 kv 4096", 8, 4, 128, (1,) * 64, (4096,) * 64, ">= 92% of floor", {"page16": PAGE_16}),
    Row("7", "decode B1 kv 32768", 8, 4, 128, (1,), (32768,), ">= 75% of floor", {"ragged": RAGGED, "page16": PAGE_16}),
    Row(
        "8",
        "skewed decode 1x64k + 7x8k + 56x1k",
        8,
        4,
        128,
        (1,) * 64,
        (65536,) + (8192,) * 7 + (1024,) * 56,
        ">= 88% of floor",
        {"page16": PAGE_16, "page16/no_split": PAGE_16},
        UNCUT,
    ),
    Row(
        "Z",
        "decode B64 kv zipf, mean 4096",
        8,
        4,
        128,
        (1,) * 64,
        zipf(64, 4096),
        ">= 88% of floor",
        {"page16": PAGE_16, "page16/no_split": PAGE_16},
        UNCUT,
    ),
    Row(
        "9",
        "mixed 1x2048 prefill + 128 decodes kv 2048",
        4,
        7,
        128,
        (2048,) + (1,) * 128,
        (2048,) * 129,
        "<= 280 us",
        {"page1": PAGE_1},
    ),
)


def row_by_id(row_id: str) -> Row:
    return next(row for row in ROWS if row.id == row_id)
