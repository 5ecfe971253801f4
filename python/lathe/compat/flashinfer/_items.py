"""Scoring of many items at once: the tokens of an item see what comes before all items, and their own item."""

from __future__ import annotations

import torch

from lathe._arguments import read_integer
from lathe.compat.flashinfer._arguments import check_tensors
from lathe.compat.flashinfer._batches import Batch
from lathe.errors import SpecError


def _whole(name: str, value: torch.Tensor | None, entries: int) -> torch.Tensor:
    """At least so many whole numbers, none below 0, as i64 on the host."""
    check_tensors(**{name: value})
    assert value is not None
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise SpecError(f"has elements of {value.dtype}; allowed: whole numbers", where=name)
    if value.numel() < entries:
        raise SpecError(f"has {value.numel()} entries; allowed: at least {entries}", where=name)
    found = value.detach().flatten().to(device="cpu").to(torch.int64)
    if len(found) and int(found.min()) < 0:
        raise SpecError(f"holds {int(found.min())}; allowed: 0 and more", where=name)
    return found


def item_rows(
    batch: Batch,
    page_size: int,
    prefix_len: torch.Tensor | None,
    positions: torch.Tensor | None,
    padded_len: int,
    longest: torch.Tensor | None,
) -> dict[str, torch.Tensor] | None:
    """For each row of q: keys that every item sees, and the first key of its own item that it sees; i32 on the host.

    A token that is `position` places behind its item's delimiter, which is at 0, sees as many keys up to itself. So it does not see
    the delimiter, which sees the prefix alone. Rows within the prefix see what is before them. Arguments are those of plan().
    """
    if prefix_len is None:
        for name, value in (("token_pos_in_items_ptr", positions), ("max_item_len_ptr", longest)):
            if value is not None:
                raise SpecError(f"is None, but {name} is given; allowed: both, or none", where="prefix_len_ptr")
        if read_integer("token_pos_in_items_len", padded_len) != 0:
            raise SpecError(f"is {padded_len}; allowed: 0, without prefix_len_ptr", where="token_pos_in_items_len")
        return None
    qo_lens, kv_lens = batch.qo_indptr.diff().long(), batch.kv_lens(page_size)
    size = len(qo_lens)
    prefix = _whole("prefix_len_ptr", prefix_len, size)[:size]
    if read_integer("token_pos_in_items_len", padded_len) < 0:
        raise SpecError(f"is {padded_len}; allowed: 0 and more", where="token_pos_in_items_len")
    lens = kv_lens - prefix  # of items and their delimiters
    for i in torch.nonzero(lens < 0).flatten().tolist():
        raise SpecError(
            f"holds {int(prefix[i])}; allowed: at most {int(kv_lens[i])}, the keys of request {i}", where="prefix_len_ptr"
        )
    if size > 1 and int(lens.max()) > padded_len:
        most = f"{int(lens.max())} or more, the keys behind the prefix of request {int(lens.argmax())}"
        raise SpecError(f"is {padded_len}; allowed: {most}", where="token_pos_in_items_len")
    needed = int((torch.arange(size, device="cpu") * padded_len + lens).max()) if size else 0
    given = _whole("token_pos_in_items_ptr", positions, needed)
    most_given = _whole("max_item_len_ptr", longest, size)[:size]

    request = torch.repeat_interleave(torch.arange(size, device="cpu"), qo_lens)
    row = torch.arange(len(request), device="cpu") - batch.qo_indptr[:-1].long()[request]
    at = (kv_lens - qo_lens)[request] + row
    in_items = at >= prefix[request]
    position = torch.zeros_like(at)
    position[in_items] = given[(request * padded_len + at - prefix[request])[in_items]]
    for i in torch.nonzero(position > most_given[request]).flatten()[:1].tolist():
        b = int(request[i])
        least = f"{int(position[i])} or more, as in token_pos_in_items_ptr"
        raise SpecError(f"holds {int(most_given[b])} for request {b}; allowed: {least}", where="max_item_len_ptr")
    first = torch.where(in_items, at - position + 1, 0)
    return {"item_prefix": prefix[request].int(), "item_first": first.clamp(min=0).int()}
