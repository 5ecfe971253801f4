"""Planned batches and their runs: one operator for each run, or one envelope for every batch of a captured graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

import lathe.torch
from lathe import _lathe
from lathe.compat.flashinfer._arguments import alibi_slopes
from lathe.compat.flashinfer._kernels import MASK_ROWS, Features, spec_text
from lathe.errors import SpecError

_MOST_BITS = 2**31


@dataclass
class Batch:
    """Lengths on the host, pages and masks on the device.

    Attributes
    ----------
    qo_indptr, kv_indptr : i32 [batch + 1]
        Rows of q; rows of k, or entries of `kv_indices`.
    last_page_len : i32 [batch], optional
    kv_indices : i32, optional
        Page ids, on the device.
    mask_bits : u8, optional
        Little-endian bits, rows of keys one after the other, each request from a byte on; on the device.
    mask_indptr : [batch + 1], optional
        Bytes of each request in `mask_bits`.
    items : dict, optional
        What rows see of items that are scored at once (`item_rows`), on the host.
    mask_rows : dict
        What was worked out for the rows of a mask, by the window.
    """

    qo_indptr: torch.Tensor
    kv_indptr: torch.Tensor
    last_page_len: torch.Tensor | None = None
    kv_indices: torch.Tensor | None = None
    mask_bits: torch.Tensor | None = None
    mask_indptr: torch.Tensor | None = None
    items: dict[str, torch.Tensor] | None = None
    mask_rows: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return int(self.qo_indptr[-1])

    @property
    def own_mask(self) -> str:
        return "items" if self.items is not None else "bits" if self.mask_bits is not None else ""

    def kv_lens(self, page_size: int) -> torch.Tensor:
        """Keys of each request; i64."""
        entries = self.kv_indptr.diff().long()
        if self.last_page_len is None:
            return entries
        return torch.where(entries > 0, (entries - 1) * page_size + self.last_page_len, 0)


@dataclass(frozen=True)
class Numbers:
    """What a run gives to a kernel beside tensors; `window_left` is below 0 for none, `soft_cap` 0."""

    window_left: int
    sm_scale: float
    soft_cap: float

    def __post_init__(self) -> None:
        # 0 would be read as the preset.
        if not (self.sm_scale > 0 and math.isfinite(self.sm_scale)):
            raise SpecError(
                f"comes to {self.sm_scale}, with the factors of queries and keys; allowed: finite and > 0", where="sm_scale"
            )

    def window(self, features: Features) -> int:
        """Keys that a row sees, itself included, where the kernel's own mask has a window; else 0."""
        return self.window_left + 1 if features.windowed and not features.own_mask else 0

    def cap(self, features: Features) -> float:
        """Of the kernel itself; where hooks cap scores, 0."""
        return self.soft_cap if features.soft_cap and features.positions != "ALIBI" else 0.0

    def params(self, features: Features) -> dict[str, float]:
        return {"cap": self.soft_cap} if features.soft_cap and features.positions == "ALIBI" else {}


def _mask_rows(batch: Batch, features: Features, window_left: int) -> dict[str, torch.Tensor]:
    """Of each row of q what its mask reads, by the names of `MASK_ROWS`; i32 on the host."""
    qo_lens, kv_lens = batch.qo_indptr.diff().long(), batch.kv_lens(features.page_size)
    request = torch.repeat_interleave(torch.arange(len(qo_lens), device="cpu"), qo_lens)
    row = torch.arange(len(request), device="cpu") - batch.qo_indptr[:-1].long()[request]
    first_key = torch.zeros_like(row)
    if features.windowed:
        first_key = (kv_lens - qo_lens)[request] + row - window_left
    rows = {"mask_first": first_key.clamp(min=0).int()}
    if batch.items is not None:
        return rows | batch.items
    assert batch.mask_indptr is not None
    first_bit = batch.mask_indptr.long()[:-1][request] * 8 + row * kv_lens[request]
    if len(request) and int((first_bit + kv_lens[request]).max()) > _MOST_BITS:
        raise SpecError(f"has more than {_MOST_BITS} bits; allowed: fewer", where="custom_mask")
    return rows | {"mask_row": first_bit.int()}


def _with_bits(batch: Batch, rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a mask reads: of rows, and its bits if it has any."""
    return dict(rows) if batch.mask_bits is None or batch.items is not None else {"mask_bits": batch.mask_bits, **rows}


def _tensors(features: Features, batch: Batch, numbers: Numbers, q: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the hooks of a run read."""
    tensors = {}
    if features.own_mask:
        window = numbers.window_left if features.windowed else -1
        if window not in batch.mask_rows:
            batch.mask_rows[window] = {name: x.to(q.device) for name, x in _mask_rows(batch, features, window).items()}
        tensors = _with_bits(batch, batch.mask_rows[window])
    if features.positions == "ALIBI":
        tensors["slopes"] = alibi_slopes(q.shape[1], q.device)
    return tensors


def attend(
    features: Features,
    batch: Batch,
    numbers: Numbers,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> None:
    """Plans and runs `batch`. `q` and `out` are of the kernel's dtypes, `lse` is f32 [rows, heads], base 2."""
    lathe.torch.attention_into(
        *(spec_text(features), q, k, v, out, lse),
        qo_indptr=batch.qo_indptr,
        kv_indptr=batch.kv_indptr,
        kv_indices=batch.kv_indices,
        last_page_len=batch.last_page_len,
        window=numbers.window(features),
        sm_scale=numbers.sm_scale,
        soft_cap=numbers.cap(features),
        tensors=_tensors(features, batch, numbers, q),
        params=numbers.params(features),
    )


def bounds_of(
    features: Features, batch: Batch, numbers: Numbers, num_kv_heads: int, max_rows: int, max_entries: int
) -> lathe.torch.Bounds:
    """Bounds of every batch with as many requests as `batch`."""
    return lathe.torch.Bounds(
        num_kv_heads=num_kv_heads,
        max_batch=len(batch.qo_indptr) - 1,
        max_qo_tokens=max_rows,
        max_kv_entries=max_entries,
        max_kv_len=max_entries * max(features.page_size, 1) if features.split_tokens > 0 else 0,
        window=numbers.window(features),
    )


def sizes(features: Features, bounds: lathe.torch.Bounds, device: torch.device) -> tuple[int, int]:
    """Bytes that Lathe takes for batches within `bounds`: of workspace, and of scratch memory to plan in."""
    like = torch.empty(0, dtype=torch.uint8, device=device)
    workspace, scratch = torch.ops.lathe.sizes(like, bounds.envelope(spec_text(features))).tolist()
    return workspace, scratch


class Captured:
    """One envelope: its launch may be captured, and replayed after each further plan.

    Other features or bounds make another envelope; captures of the one before then keep its memory alive, but see no new plans.
    """

    def __init__(self, features: Features, bounds: lathe.torch.Bounds, device: torch.device) -> None:
        self._key = features, bounds
        self._envelope = lathe.torch.Envelope(_lathe.AttentionSpec.from_json(spec_text(features)), bounds, device)
        entries = bounds.max_qo_tokens
        self._rows = {name: torch.zeros(entries, dtype=torch.int32, device=device) for name in MASK_ROWS[features.own_mask]}
        self.planned: tuple[Batch, Numbers] | None = None

    def holds(self, features: Features, bounds: lathe.torch.Bounds) -> bool:
        return self._key == (features, bounds)

    def serves(self, features: Features, bounds: lathe.torch.Bounds, numbers: Numbers) -> bool:
        """Whether a run may follow what was planned, of which the window over a mask is a part."""
        windowed = bool(features.own_mask) and features.windowed
        same = self.planned is not None and self.planned[1].window_left == numbers.window_left
        return self.holds(features, bounds) and (same or not windowed)

    def plan(self, batch: Batch, numbers: Numbers, mask_bits: torch.Tensor | None = None) -> None:
        """Plans a batch; `mask_bits` are those that its buffer will hold, where they are not there yet."""
        features = self._key[0]
        self.planned = batch, numbers
        copies = {}
        if features.own_mask:
            for name, values in _mask_rows(batch, features, numbers.window_left).items():
                self._rows[name][: len(values)].copy_(values)
            if self._envelope.workspace.device.type == "cpu":
                copies = _with_bits(batch, self._rows)
                if mask_bits is not None and len(mask_bits) > 0:
                    copies["mask_bits"] = mask_bits.cpu().contiguous()
        self._envelope.plan(qo_indptr=batch.qo_indptr, kv_indptr=batch.kv_indptr, last_page_len=batch.last_page_len, tensors=copies)

    def run(
        self,
        batch: Batch,
        numbers: Numbers,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
    ) -> None:
        """As `attend`, but `q`, `out`, `lse` and ragged `k` and `v` are as large as the bounds allow."""
        features = self._key[0]
        tensors = _with_bits(batch, self._rows) if features.own_mask else {}
        if features.positions == "ALIBI":
            tensors["slopes"] = alibi_slopes(q.shape[1], q.device)
        self._envelope.run(
            *(q, k, v, out),
            lse=lse,
            kv_indices=batch.kv_indices,
            sm_scale=numbers.sm_scale,
            soft_cap=numbers.cap(features),
            tensors=tensors,
            params=numbers.params(features),
        )
