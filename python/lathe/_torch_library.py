"""The operators' library, loaded."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from lathe import _lathe
from lathe._torch_arguments import DTYPE_OF
from lathe.errors import UnavailableError


def library() -> str:
    """Path of the operators' library, for `torch.ops.load_library` in programs without this module.

    Raises
    ------
    UnavailableError
        The package was built without PyTorch.
    """
    path = Path(__file__).parent / "lib" / "liblathe_torch.so"
    if path.is_file():
        return os.fspath(path)
    raise UnavailableError(
        "was built without PyTorch",
        where="the package",
        hint="install PyTorch 2.10 or later, then build the package anew with --no-build-isolation",
        code="unavailable",
    )


torch.ops.load_library(library())


@torch.library.register_fake("lathe::attention")
def _(q, k, v, qo_indptr, kv_indptr, kv_indices, last_page_len, seq_lens, spec, window, sm_scale, soft_cap):  # type: ignore[no-untyped-def]
    parsed = _lathe.AttentionSpec.from_json(spec)
    o = q.new_empty((q.shape[0], q.shape[1], parsed.head_dim_vo), dtype=DTYPE_OF[parsed.o_dtype])
    return o, q.new_empty((0 if parsed.lse == "none" else q.shape[0], q.shape[1]), dtype=torch.float32)


@torch.library.register_fake("lathe::sizes")
def _(like, envelope):  # type: ignore[no-untyped-def]
    return torch.empty(2, dtype=torch.int64, device="cpu")
