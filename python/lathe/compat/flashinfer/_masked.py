"""Custom masks, as the wrappers of prefill have them."""

from __future__ import annotations

import torch

from lathe.compat.flashinfer import _batches
from lathe.compat.flashinfer._arguments import (
    check_buffer,
    check_index_buffer,
    check_like,
    check_tensors,
)
from lathe.compat.flashinfer._wrapper import Wrapper
from lathe.compat.flashinfer.quantization import segment_packbits
from lathe.errors import SpecError


def check_bits(name: str, bits: torch.Tensor, needed: int) -> None:
    check_tensors(**{name: bits})
    if bits.dtype != torch.uint8 or bits.dim() != 1 or bits.numel() < needed:
        raise SpecError(f"is {bits.dtype} {list(bits.shape)}; allowed: torch.uint8 of at least {needed} bytes", where=name)


def check_mask(mask: torch.Tensor, pairs: int) -> torch.Tensor:
    """A custom mask, flat. Numbers that are added to scores are no mask of booleans."""
    check_tensors(custom_mask=mask)
    if mask.is_floating_point() or mask.is_complex():
        raise SpecError(f"has elements of {mask.dtype}; allowed: torch.bool", where="custom_mask")
    if mask.numel() != pairs:
        raise SpecError(f"has {mask.numel()} elements; allowed: {pairs}, one for each pair", where="custom_mask")
    return mask.reshape(-1)


class MaskedWrapper(Wrapper):
    """What ragged and paged wrappers share: masks."""

    def _mask(
        self,
        batch: _batches.Batch,
        page_size: int,
        custom_mask: torch.Tensor | None,
        packed: torch.Tensor | None,
        non_blocking: bool,
    ) -> torch.Tensor | None:
        """Brings a mask to the device, in a graph to its buffers when the plan is done; its bits."""
        for name, mask in (("custom_mask", custom_mask), ("packed_custom_mask", packed)):
            if mask is not None and batch.items is not None:
                raise SpecError("is given; allowed: None, with prefix_len_ptr, which says what rows see", where=name)
        if custom_mask is None and packed is None:
            if not self._use_cuda_graph:
                self._custom_mask_buf = self._mask_indptr_buf = None
            return None
        bits = batch.qo_indptr.diff().long() * batch.kv_lens(page_size)
        indptr = torch.zeros(len(bits) + 1, dtype=torch.int64, device="cpu")
        indptr[1:] = bits.cumsum(0)
        if packed is None:
            assert custom_mask is not None
            mask = check_mask(custom_mask, int(indptr[-1]))
            packed, _ = segment_packbits(mask, indptr, bitorder="little")
        indptr[1:] = ((bits + 7) // 8).cumsum(0)
        check_bits("packed_custom_mask", packed, int(indptr[-1]))
        if self._use_cuda_graph:
            why = "for graphs with a custom mask"
            buffer = check_buffer("custom_mask_buf", self._custom_mask_buf, why)
            check_like("custom_mask_buf", buffer, (buffer.numel(),), torch.uint8, self.device)
            offsets = check_index_buffer("mask_indptr_buf", self._mask_indptr_buf, why, self.device)
            if len(packed) > len(buffer) or len(offsets) != len(indptr):
                raise SpecError(f"has {len(packed)} bytes; allowed: at most {len(buffer)}, as custom_mask_buf", where="custom_mask")
            self._write(buffer, packed, non_blocking)
            self._write(offsets, indptr, non_blocking)
        else:
            # A kernel's tensor is not empty.
            self._custom_mask_buf = packed.to(self.device) if len(packed) else packed.new_zeros(1, device=self.device)
            self._mask_indptr_buf = indptr.to(self.device, torch.int32, non_blocking=non_blocking)
        batch.mask_bits, batch.mask_indptr = self._custom_mask_buf, indptr
        return packed
