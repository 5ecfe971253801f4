"""What callers pass, as the module takes it: checked, with problems that name the argument."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lathe.errors import SpecError

# A numpy array, or any object with __dlpack__().
ArrayLike: TypeAlias = Any
IndexLike: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]]
TableLike: TypeAlias = Sequence[Sequence[int]] | npt.NDArray[np.integer[Any]]

EMPTY = np.empty(0, np.int32)
# The lengths and pages that a layout reads beside qo_indptr: "ragged", or the index of its pages.
_READ = {
    "ragged": ("kv_indptr",),
    "csr": ("kv_indptr", "kv_indices", "last_page_len"),
    "table": ("block_table", "seq_lens"),
}


def read_indices(name: str, value: IndexLike | TableLike | None, rank: int = 1) -> npt.NDArray[np.int32]:
    """`value` as contiguous i32, without a change of any number; None is empty."""
    if value is None:
        return EMPTY
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        array = np.asarray(value)
    else:
        array = np.from_dlpack(value)
    if array.size == 0 and array.dtype == np.float64:  # an empty list
        array = array.astype(np.int32)
    if array.ndim != rank:
        raise SpecError(f"has {array.ndim} dimensions; allowed: {rank}", where=name)
    if not np.issubdtype(array.dtype, np.integer):
        raise SpecError(f"has elements of {array.dtype}; allowed: whole numbers", where=name)
    limits = np.iinfo(np.int32)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise SpecError(f"holds {array.min()}..{array.max()}; allowed: numbers of 32 bits", where=name)
    return np.ascontiguousarray(array, np.int32)


def refuse_unread(layout: str, **given: Any) -> None:
    """Refuses lengths and pages that nothing would read; `layout` is ``"ragged"``, or the index of its pages."""
    for name, value in given.items():
        if value is not None and name not in _READ[layout]:
            found = "the layout is ragged" if layout == "ragged" else f"the layout's index is {layout}"
            raise SpecError(f"is given, but {found}; allowed: None", where=name)


def check_order(order: str) -> None:
    if order not in ("NHD", "HND"):
        raise SpecError(f"is {order!r}; allowed: 'NHD', 'HND'", where="order")


def read_integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise SpecError(f"is {value!r}; allowed: a whole number", where=name)
    if not -(2**31) <= int(value) < 2**31:
        raise SpecError(f"is {value}; allowed: a number of 32 bits", where=name)
    return int(value)


def read_positive(name: str, value: Any) -> float:
    """A run-time number; None is 0, which stands for none."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise SpecError(f"is {value!r}; allowed: a number", where=name)
    if not 0 < float(value) < math.inf:  # and not isfinite(): while a graph is traced, only this is known of a number
        raise SpecError(f"is {value}; allowed: finite and > 0", where=name)
    return float(value)


def _mapping(what: str, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise SpecError(f"is {reprlib.repr(given)}; allowed: a mapping of names", where=what)
    return given or {}


def read_params(given: Mapping[str, float] | None) -> dict[str, float]:
    params = {}
    for name, value in _mapping("params", given).items():
        if not isinstance(value, int | float | np.number | np.bool_):
            raise SpecError(f"is {value!r}; allowed: a number", where=f"param {name}")
        params[str(name)] = float(value)
    return params


def read_tensors(given: Mapping[str, ArrayLike] | None) -> dict[str, ArrayLike]:
    return {str(name): value for name, value in _mapping("tensors", given).items()}


def read_scales(name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    scales = {str(key): value for key, value in _mapping(name, given).items()}
    if "scale" in scales:
        scales["scale"] = read_positive(f"{name}.scale", scales["scale"])
    return scales


def read_stream(stream: Any) -> int:
    if isinstance(stream, bool) or not isinstance(stream, int) or stream < 0:
        raise SpecError(f"is {stream!r}; allowed: the address of a CUDA stream, or 0", where="stream")
    return stream


def bfloat16(like: ArrayLike) -> np.dtype[Any]:
    """The dtype of new bf16 arrays: that of `like`, or bits where only bits are known."""
    if isinstance(like, np.ndarray) and like.dtype.name in ("bfloat16", "uint16"):
        known: np.dtype[Any] = like.dtype
        return known
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(np.uint16)
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def dtype_of(name: str, element: str, given: Any) -> str:
    """The spec's dtype of an array's elements."""
    if element == "bits16":
        return str(given) if given is not None else "bf16"
    if element not in ("f16", "bf16"):
        raise SpecError(f"has elements of {element}; allowed: f16, bf16 (or their bits as uint16)", where=name)
    return element
