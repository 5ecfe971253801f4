"""Layouts of chosen keys: block-sparse matrices, and keys gathered by index."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lathe import _lathe
from lathe._arguments import IndexLike, read_indices, read_integer
from lathe.errors import SpecError


def block_sparse(
    indptr: IndexLike,
    indices: IndexLike,
    *,
    rows: int,
    columns: int,
    block_rows: int,
    block_columns: int,
    num_kv_heads: int,
) -> _lathe.SparseLayout:
    """Rows see whole blocks of keys: block row i sees the block columns ``indices[indptr[i]:indptr[i + 1]]``.

    Parameters
    ----------
    indptr : [ceil(rows / block_rows) + 1] of int
        Where the list of each block row begins in `indices`; starts at 0 and never falls.
    indices : [indptr[-1]] of int
        Block columns, 0..columns / block_columns - 1, in any order, each once in a block row.
    rows : int
        Of the matrix: rows of q. The last block may be short.
    columns : int
        Of the matrix: rows of k and v, a multiple of `block_columns`.
    block_rows, block_columns : int
        Of a block, of any size; what the kernel is made for is `block_columns`.
    num_kv_heads : int
        Heads of k and v.

    Returns
    -------
    SparseLayout
        For `lathe.attention` and `Attention.plan_layout`.

    Raises
    ------
    SpecError
        Numbers and lists that are wrong, all of them at once.

    Examples
    --------
    >>> import numpy as np, lathe
    >>> layout = lathe.block_sparse([0, 1, 3], [1, 0, 1], rows=8, columns=16, block_rows=4, block_columns=8, num_kv_heads=2)
    >>> q = np.ones((8, 8, 64), np.float16)
    >>> k = v = np.ones((16, 2, 64), np.float16)
    >>> lathe.attention(q, k, v, layout=layout).shape
    (8, 8, 64)
    """
    return _lathe.block_sparse(
        indptr=read_indices("indptr", indptr),
        indices=read_indices("indices", indices),
        rows=read_integer("rows", rows),
        columns=read_integer("columns", columns),
        block_rows=read_integer("block_rows", block_rows),
        block_columns=read_integer("block_columns", block_columns),
        num_kv_heads=read_integer("num_kv_heads", num_kv_heads),
    )


def gather(
    indices: Any,
    *,
    num_keys: int,
    num_kv_heads: int,
    qo_indptr: IndexLike | None = None,
    scope: str = "request",
) -> _lathe.SparseLayout:
    """Rows see the keys whose indices a list holds, each as often as it stands there.

    Parameters
    ----------
    indices : [lists, width] or [lists, num_kv_heads, width] of int
        Rows of k and v, below `num_keys`; negative ones are skipped. With three dimensions each kv head has lists of its own.
    num_keys : int
        Rows of k and v.
    num_kv_heads : int
        Heads of k and v.
    qo_indptr : [batch + 1] of int, optional
        Rows of request b are ``qo_indptr[b] .. qo_indptr[b + 1]`` of q. May be left out where each row has a list.
    scope : {"request", "query"}
        Whether there is a list for each request, or for each row of q.

    Returns
    -------
    SparseLayout
        For `lathe.attention` and `Attention.plan_layout`.

    Raises
    ------
    SpecError
        Numbers and lists that are wrong, all of them at once.

    Examples
    --------
    >>> import numpy as np, lathe
    >>> layout = lathe.gather([[3, 0, -1], [7, -1, -1]], num_keys=9, num_kv_heads=2, scope="query")
    >>> q = np.ones((2, 8, 64), np.float16)
    >>> k = v = np.ones((9, 2, 64), np.float16)
    >>> lathe.attention(q, k, v, layout=layout).shape
    (2, 8, 64)
    """
    heads = read_integer("num_kv_heads", num_kv_heads)
    lists = _read_lists(indices, heads)
    if scope not in ("request", "query"):
        raise SpecError(f"is {scope!r}; allowed: 'request', 'query'", where="scope")
    if qo_indptr is None:
        if scope == "request":
            raise SpecError("is None; allowed: [batch + 1] of int, where each request has a list", where="qo_indptr")
        qo_indptr = [0, lists.shape[0]]
    return _lathe.gather(
        indices=lists.reshape(-1),
        qo_indptr=read_indices("qo_indptr", qo_indptr),
        scope=scope,
        per_kv_head=lists.ndim == 3,
        width=lists.shape[-1],
        num_keys=read_integer("num_keys", num_keys),
        num_kv_heads=heads,
    )


def _read_lists(indices: Any, heads: int) -> npt.NDArray[np.int32]:
    try:
        rank = indices.ndim if hasattr(indices, "ndim") else np.ndim(indices)
    except ValueError as error:
        raise SpecError("holds lists of several lengths; allowed: one width, filled up with -1", where="indices") from error
    if rank not in (2, 3):
        raise SpecError(f"has {rank} dimensions; allowed: 2, or 3 where each kv head has lists of its own", where="indices")
    lists = read_indices("indices", indices, rank)
    if rank == 3 and lists.shape[1] != heads:
        raise SpecError(f"has shape {list(lists.shape)}; allowed: [lists, {heads} kv heads, width]", where="indices")
    return lists
