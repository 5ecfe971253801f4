from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt

from lathe.spec import AttentionFields, LayoutFields

__version__: str

_Indices = npt.NDArray[np.int32]
_Built = tuple[int | None, str, str]

class AttentionSpec:
    """Everything about an attention operation that changes generated code.

    An immutable value: equal specs are equal, and may be keys of dicts. Lengths, head counts, window width, scale and soft-cap are
    arguments of a run and never part of it.

    Parameters
    ----------
    **fields
        As `lathe.spec.fields()` lists them; what is left out has its preset.

    Raises
    ------
    lathe.SpecError
        Unknown fields, with the nearest known one; values that are not allowed; combinations that cannot be served. All at once.
    """

    def __init__(self, **fields: Unpack[AttentionFields]) -> None: ...
    @staticmethod
    def from_json(text: str) -> AttentionSpec:
        """The spec of a JSON object of fields.

        Parameters
        ----------
        text : str
            Fields as `to_json` writes them; what is left out has its preset.

        Returns
        -------
        AttentionSpec

        Raises
        ------
        lathe.SpecError
            As of the constructor; text that is no JSON.
        """

    def to_json(self) -> str:
        """All fields as JSON text, which `from_json` reads back."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dict of Python values."""

    def canonical_bytes(self) -> bytes:
        """Bytes that are equal where specs share one kernel."""

    def replace(self, **fields: Unpack[AttentionFields]) -> AttentionSpec:
        """The same spec with other values of some fields.

        Parameters
        ----------
        **fields
            As in the constructor; a dict for ``layout`` replaces what it names.

        Returns
        -------
        AttentionSpec

        Raises
        ------
        lathe.SpecError
            As of the constructor.
        """

    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def q_dtype(self) -> str: ...
    @property
    def o_dtype(self) -> str: ...
    @property
    def kfmt(self) -> str: ...
    @property
    def vfmt(self) -> str: ...
    @property
    def kscale(self) -> str: ...
    @property
    def vscale(self) -> str: ...
    @property
    def kzero(self) -> str: ...
    @property
    def vzero(self) -> str: ...
    @property
    def group_size(self) -> int: ...
    @property
    def head_dim_qk(self) -> int: ...
    @property
    def head_dim_vo(self) -> int: ...
    @property
    def gqa_pack(self) -> str: ...
    @property
    def layout(self) -> dict[str, Any]: ...
    @property
    def mask(self) -> str: ...
    @property
    def soft_cap(self) -> bool: ...
    @property
    def lse(self) -> str: ...
    @property
    def determinism(self) -> str: ...
    @property
    def split_kv(self) -> str | dict[str, int]: ...
    @property
    def tile(self) -> str | dict[str, Any]: ...
    @property
    def hooks(self) -> str | dict[str, Any]: ...
    @property
    def arch(self) -> str: ...

def attention_fields() -> list[tuple[str, str, str, str]]: ...

class Device:
    """Where kernels run; made by `host_device` and `cuda_device`."""

    @property
    def name(self) -> str:
        """As its maker calls it."""

    @property
    def arch(self) -> str:
        """`host`, or sm_ and the compute capability."""

    @property
    def num_sms(self) -> int:
        """Streaming multiprocessors."""

def host_device(seed: int = 0, check: bool = False, threads: int = 0) -> Device:
    """The host executor: kernels run on this machine's processor.

    Parameters
    ----------
    seed : int
        Of the order of threads, blocks and late copies.
    check : bool
        Find races, uninitialised reads, bad addresses and divergent barriers; slow.
    threads : int
        Operating-system threads; 0: the knob LATHE_SIMT_THREADS, or the cores.

    Returns
    -------
    Device
    """

def cuda_device(ordinal: int = 0) -> Device:
    """A GPU, through the CUDA driver.

    Parameters
    ----------
    ordinal : int
        Its number, as the driver counts.

    Returns
    -------
    Device

    Raises
    ------
    lathe.UnavailableError
        There is no driver, it is too old, or there is no such device.
    """

class Engine:
    def __init__(self, *, unsafe_cuda: bool = False) -> None: ...
    def build(self, spec: AttentionSpec) -> dict[str, Any]: ...
    def build_planner(self, arch: str) -> dict[str, Any]: ...
    def key(self, spec: AttentionSpec) -> str: ...
    def source(self, spec: AttentionSpec) -> str: ...
    def stats(self) -> dict[str, Any]: ...
    def cache_entries(self) -> list[tuple[str, int, int]]: ...
    @property
    def cache_root(self) -> str: ...
    @property
    def cache_writable(self) -> bool: ...
    @property
    def cache_why_off(self) -> str: ...

class SparseLayout:
    """A batch of rows that see chosen keys, as pages of a kernel's layout; made by `lathe.block_sparse` and `lathe.gather`.

    Attributes
    ----------
    tokens : int
        Rows of q and o.
    keys : int
        Rows of k and v.
    num_kv_heads : int
        Heads of k and v.
    page_size : int
        Keys of a page: the columns of a block, or 1.
    spec_layout : dict
        What the spec of its kernels has as ``layout``.
    kv_indices : i32 array
        Page ids, for a kernel on a GPU: `Attention.run` takes a copy in the device's memory.
    """

    @property
    def tokens(self) -> int: ...
    @property
    def keys(self) -> int: ...
    @property
    def num_kv_heads(self) -> int: ...
    @property
    def page_size(self) -> int: ...
    @property
    def spec_layout(self) -> LayoutFields: ...
    @property
    def kv_indices(self) -> _Indices: ...

def block_sparse(
    *,
    indptr: _Indices,
    indices: _Indices,
    rows: int,
    columns: int,
    block_rows: int,
    block_columns: int,
    num_kv_heads: int,
) -> SparseLayout: ...
def gather(
    *,
    indices: _Indices,
    qo_indptr: _Indices,
    scope: str,
    per_kv_head: bool,
    width: int,
    num_keys: int,
    num_kv_heads: int,
) -> SparseLayout: ...

class Plan:
    @property
    def batch(self) -> int: ...
    @property
    def qo_tokens(self) -> int: ...
    @property
    def num_kv_heads(self) -> int: ...
    @property
    def kv_lens(self) -> list[int]: ...
    @property
    def workspace_bytes(self) -> int: ...

class PreparedAttention:
    def __init__(self, engine: Engine, device: Device, spec: AttentionSpec, unsafe_cuda: bool = False) -> None: ...
    @property
    def spec(self) -> AttentionSpec: ...
    @property
    def device(self) -> Device: ...
    @property
    def origin(self) -> Literal["memory", "disk", "compiled"]: ...
    @property
    def key(self) -> str: ...
    @property
    def num_ctas(self) -> int: ...
    @property
    def tile(self) -> dict[str, Any]: ...
    def plan(
        self,
        *,
        num_kv_heads: int,
        qo_indptr: _Indices,
        kv_indptr: _Indices,
        last_page_len: _Indices,
        seq_lens: _Indices,
        kv_indices: _Indices,
        block_table_stride: int,
        num_pages: int,
        window: int,
        share_prefixes: bool,
        params: dict[str, float],
        tensors: dict[str, Any],
    ) -> Plan: ...
    def plan_layout(self, layout: SparseLayout, *, params: dict[str, float], tensors: dict[str, Any]) -> Plan: ...
    def run(
        self,
        plan: Plan,
        *,
        q: Any,
        k: Any,
        v: Any,
        o: Any,
        lse: Any,
        kv_indices: Any,
        sm_scale: float,
        soft_cap: float,
        k_scales: dict[str, Any],
        v_scales: dict[str, Any],
        stream: int,
        params: dict[str, float],
        tensors: dict[str, Any],
    ) -> None: ...

def describe_array(name: str, value: Any) -> tuple[str, tuple[int, ...], bool, int]: ...

class Hooks:
    """Declarations, and the expression of each hook; checked. Made by `lathe.expr.hooks`, `parse` and `from_json`."""

    @staticmethod
    def parse(text: str) -> Hooks:
        """Hooks in the text form.

        Parameters
        ----------
        text : str
            As in docs/expressions.md.

        Returns
        -------
        Hooks

        Raises
        ------
        lathe.SpecError
            Text that cannot be read, or hooks that are refused; with line and column.
        """

    @staticmethod
    def from_json(text: str) -> Hooks:
        """Hooks in the JSON form.

        Parameters
        ----------
        text : str
            As `to_json` writes it.

        Returns
        -------
        Hooks

        Raises
        ------
        lathe.SpecError
            Text that cannot be read, or hooks that are refused.
        """

    def to_text(self) -> str:
        """Text that `parse` reads back."""

    def to_json(self) -> str:
        """JSON that `from_json` reads back."""

    def canonical_bytes(self) -> bytes:
        """Bytes that are equal where hooks share one kernel, however they are written."""

    def warnings(self) -> list[tuple[str, str]]:
        """What is allowed but doubtful: (place, text)."""

    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

class HookBuilder:
    def __init__(self, softmax: bool, interleaved: bool, rotary_dims: int) -> None: ...
    def i32(self, value: int, /) -> int: ...
    def u32(self, value: int, /) -> int: ...
    def f32(self, value: float, /) -> _Built: ...
    def boolean(self, value: bool, /) -> int: ...
    def input(self, name: str, /) -> int: ...
    def param(self, name: str, type: str, range: tuple[float, float] | None, /) -> int: ...
    def tensor(
        self,
        name: str,
        elem: str,
        axes: list[str | int | tuple[int]],
        summary: bool,
        sorted: bool,
        range: tuple[float, float] | None,
        /,
    ) -> int: ...
    def param_node(self, index: int, /) -> int: ...
    def read(self, index: int, at: list[int], /) -> _Built: ...
    def prefix(self, sign: str, operand: int, /) -> _Built: ...
    def infix(self, sign: str, left: int, right: int, /) -> _Built: ...
    def select(self, condition: int, yes: int, no: int, /) -> _Built: ...
    def call(self, name: str, args: list[int], /) -> _Built: ...
    def cuda(self, hook: str, text: str, args: list[int], /) -> _Built: ...
    def type_of(self, id: int, /) -> str: ...
    def set(self, hook: str, id: int, /) -> None: ...
    def findings(self) -> list[tuple[bool, str | None, int | None, str, str]]: ...
    def finish(self) -> Hooks: ...

def rope(
    head_dim: int,
    dims: int,
    interleaved: bool,
    theta: float,
    scaling: str,
    factor: float,
    original_context: float,
    low_frequency: float,
    high_frequency: float,
    beta_fast: float,
    beta_slow: float,
    attention_factor: float,
    cache: bool,
) -> str: ...
def words() -> dict[str, Any]: ...
