"""From a dense mask to requests: which rows of a boolean mask one causal, windowed or full request stands for.

Nothing is assumed about where the mask comes from: left and right padding, packed documents, chunks, windows to one or both sides
become requests that see exactly the keys that the mask shows. What has holes is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lathe.errors import SpecError

__all__ = ["Runs", "runs_of"]


@dataclass(frozen=True)
class Runs:
    """Rows of all sequences, cut into requests.

    Attributes
    ----------
    mask : str
        ``"none"``, ``"causal"`` or ``"causal_window"``.
    window : int or None
        With a window, keys that a row sees.
    qo_indptr, kv_indptr, last_page_len : i32 tensors of the CPU
        Rows and keys of each request; keys are pages of one token.
    kv_indices : i32 tensor on the device of the mask
        The key that each entry stands for: sequence * keys + key.
    """

    mask: str
    window: int | None
    qo_indptr: torch.Tensor
    kv_indptr: torch.Tensor
    kv_indices: torch.Tensor
    last_page_len: torch.Tensor


@dataclass
class _Run:
    rows: int
    first: int  # of the keys, counted over all sequences
    last: int  # the last key, or less than `first` where no key is seen


def runs_of(visible: torch.Tensor) -> Runs:
    """The requests of a boolean mask [batch, rows, keys].

    Raises
    ------
    lathe.SpecError
        A row sees keys with holes between them.
    """
    batch, rows, keys = visible.shape
    count = visible.sum(-1)
    numbers = torch.arange(keys, device=visible.device)
    first = torch.where(visible, numbers, keys).amin(-1) if keys else count
    last = torch.where(visible, numbers, -1).amax(-1) if keys else count - 1
    holes = (count > 0) & (last - first + 1 != count)
    if bool(holes.any()):
        b, row = (int(i) for i in holes.nonzero()[0])
        raise SpecError(
            f"shows row {row} of sequence {b} keys {int(first[b, row])}..{int(last[b, row])} with holes; allowed: keys without",
            where="attention_mask",
        )
    spans = [
        [(f + b * keys, end + b * keys) if end >= f else (0, -1) for f, end in zip(fs, ls, strict=True)]
        for b, (fs, ls) in enumerate(zip(first.tolist(), last.tolist(), strict=True))
    ]
    widest = int(count.max()) if count.numel() else 0
    full = [run for sequence in spans for run in _same(sequence)]
    plain = [run for sequence in spans for run in _causal(sequence, None)]
    windowed = [run for sequence in spans for run in _causal(sequence, widest)]
    mask, window, best = "causal", None, plain
    if len(windowed) < len(best):
        mask, window, best = "causal_window", widest, windowed
    if len(full) < len(best):
        mask, window, best = "none", None, full
    return _as_batch(mask, window, best, visible.device)


def _same(sequence: list[tuple[int, int]]) -> list[_Run]:
    """Rows that see the same keys."""
    out: list[_Run] = []
    for first, last in sequence:
        if out and (out[-1].first, out[-1].last) == (first, last):
            out[-1].rows += 1
        else:
            out.append(_Run(1, first, last))
    return out


def _causal(sequence: list[tuple[int, int]], window: int | None) -> list[_Run]:
    """Rows of which each sees one key more than the one before, and no key older than the window."""
    out: list[_Run] = []
    for first, last in sequence:
        if out and last >= first and out[-1].last >= out[-1].first and last == out[-1].last + 1:
            oldest = out[-1].first if window is None else max(out[-1].first, last - window + 1)
            if first == oldest:
                out[-1].rows += 1
                out[-1].last = last
                continue
        if out and last < first and out[-1].last < out[-1].first:
            out[-1].rows += 1  # rows that see nothing
        else:
            out.append(_Run(1, first, last))
    return out


def _as_batch(mask: str, window: int | None, runs: list[_Run], device: torch.device) -> Runs:
    lengths = [run.last - run.first + 1 for run in runs]
    rows = torch.tensor([0, *(run.rows for run in runs)], dtype=torch.int32, device="cpu")
    entries = torch.tensor([0, *lengths], dtype=torch.int32, device="cpu")
    indices = [torch.arange(run.first, run.last + 1, dtype=torch.int32, device="cpu") for run in runs]
    return Runs(
        mask,
        window,
        rows.cumsum(0, dtype=torch.int32),
        entries.cumsum(0, dtype=torch.int32),
        torch.cat(indices or [torch.empty(0, dtype=torch.int32, device="cpu")]).to(device),
        torch.ones(len(runs), dtype=torch.int32, device="cpu"),
    )
