"""What the wrappers of batches have in common: options, checks, runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from lathe._torch_arguments import check_tensors as refuse_gradients
from lathe.compat.flashinfer import _batches
from lathe.compat.flashinfer._arguments import (
    FLOAT8,
    LAYOUTS,
    POSITIONS,
    Unsupported,
    check_buffer,
    check_choice,
    check_like,
    check_options,
    check_tensors,
    check_workspace,
    number,
    scalar,
)
from lathe.compat.flashinfer._kernels import Features, compute_dtype, spec_text
from lathe.errors import SpecError

# "auto" and names of FlashInfer's kernels: Lathe has one family, so that these say nothing here. cudnn's offsets count elements.
BACKENDS = ("auto", "fa2", "fa3", "cutlass", "cute-dsl", "fmha_v2", "trtllm-gen")
_LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class Shape:
    """What a plan fixes beside the batch."""

    num_qo_heads: int
    num_kv_heads: int
    head_dim_qk: int
    head_dim_vo: int
    page_size: int
    q_dtype: torch.dtype
    kv_dtype: torch.dtype
    o_dtype: torch.dtype
    split_tokens: int

    def check(self) -> None:
        if self.num_kv_heads < 1 or self.num_qo_heads < 1 or self.num_qo_heads % self.num_kv_heads != 0:
            raise SpecError(
                f"is {self.num_qo_heads}, num_kv_heads is {self.num_kv_heads}; allowed: a multiple of num_kv_heads",
                where="num_qo_heads",
            )


@dataclass(frozen=True)
class Factors:
    """Numbers and vectors that results are scaled by, of queries, keys and values."""

    scores: float = 1.0
    values: float = 1.0
    value_heads: torch.Tensor | None = None  # f32 [heads]


def head_factors(
    q: torch.Tensor, scales: tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None], num_kv_heads: int
) -> tuple[torch.Tensor, Factors]:
    """Scales of each head, as 8-bit queries, keys and values have them: what becomes of q, and the rest.

    Scores of a head are products of one factor, of which q takes the part that differs from the largest. Reads that one, which
    waits for the device.
    """
    heads = q.shape[1]

    def per_head(name: str, scale: torch.Tensor | None, count: int) -> torch.Tensor:
        if scale is None:
            return torch.ones(heads, dtype=torch.float32, device=q.device)
        scale = torch.as_tensor(number(name, scale), device=q.device) if not isinstance(scale, torch.Tensor) else scale
        check_tensors(q.device, **{name: scale})
        flat = scale.float().flatten()
        if len(flat) not in (1, count):
            raise SpecError(f"has {len(flat)} elements; allowed: 1, or one for each of {count} heads", where=name)
        return flat.expand(count).repeat_interleave(heads // count)

    scores = per_head("scale_q", scales[0], heads) * per_head("scale_k", scales[1], num_kv_heads)
    most = scores.abs().max()
    q = (q.float() * (scores / most).unsqueeze(-1)).to(compute_dtype(q.dtype))
    return q, Factors(scores=float(most), value_heads=per_head("scale_v", scales[2], num_kv_heads))


def finish(
    result: torch.Tensor,
    out: torch.Tensor | None,
    lse: torch.Tensor,
    factors: Factors,
    sinks: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The kernel's result with sinks and factors of values, in `out` or in its place; `lse` is changed in place."""
    if sinks is not None:
        # A sink is one more logit in the denominator: exp(lse) / (exp(lse) + exp(sink)), in base 2.
        sink = sinks.float() * _LOG2E
        result = result * torch.sigmoid((lse - sink) / _LOG2E).unsqueeze(-1)
        lse.copy_(torch.logaddexp2(lse, sink.expand_as(lse)))
    if factors.values != 1.0:
        result = result.float() * factors.values
    if factors.value_heads is not None:
        result = result.float() * factors.value_heads.unsqueeze(-1)
    if out is None:
        return result.to(dtype)
    return out if result is out else out.copy_(result)


class Wrapper:
    """A planned batch and the options of its runs; private names that callers of FlashInfer's wrappers read are kept."""

    def __init__(self, workspace: torch.Tensor, kv_layout: str, use_cuda_graph: bool, backend: str) -> None:
        if backend not in BACKENDS:
            raise Unsupported(f"is {backend!r}; allowed: {', '.join(BACKENDS)}", where="backend")
        self._kv_layout = check_choice("kv_layout", kv_layout, LAYOUTS)
        self._float_workspace_buffer = check_workspace("float_workspace_buffer", workspace)
        self._int_workspace_buffer: torch.Tensor | None = None
        self.device = workspace.device
        self._use_cuda_graph = use_cuda_graph
        self._backend = backend
        self._fixed_batch_size = 0
        self._max_total_num_rows: int | None = None
        self._max_kv_entries = 0
        self._shape: Shape | None = None
        self._plan_info: Shape | None = None
        self._batch: _batches.Batch | None = None
        self._captured: _batches.Captured | None = None
        # What a plan is to copy into buffers of graphs, and whether without waiting; None outside of plans (_all_or_nothing.py).
        self._writes: list[tuple[torch.Tensor, torch.Tensor, bool]] | None = None
        self._custom_mask_buf: torch.Tensor | None = None
        self._mask_indptr_buf: torch.Tensor | None = None
        self._causal = False
        self._set_options("NONE", -1, None, None, None, None)

    @property
    def is_cuda_graph_enabled(self) -> bool:
        """Whether plans go to the buffers of captured graphs."""
        return self._use_cuda_graph

    def reset_workspace_buffer(self, float_workspace_buffer: torch.Tensor, int_workspace_buffer: torch.Tensor) -> None:
        """Other buffers, which Lathe does not use: its workspaces come from PyTorch's allocator.

        Parameters
        ----------
        float_workspace_buffer, int_workspace_buffer : Tensor
            At addresses of whole 16 bytes.

        Raises
        ------
        SpecError
            What is no tensor, or lies elsewhere.
        """
        self._float_workspace_buffer = check_workspace("float_workspace_buffer", float_workspace_buffer)
        self._int_workspace_buffer = check_workspace("int_workspace_buffer", int_workspace_buffer)

    def end_forward(self) -> None:
        """Does nothing; of an older interface."""

    def _set_options(
        self,
        pos_encoding_mode: str,
        window_left: int,
        logits_soft_cap: float | None,
        sm_scale: float | None,
        rope_scale: float | None,
        rope_theta: float | None,
    ) -> None:
        check_options(window_left, logits_soft_cap, sm_scale, rope_scale, rope_theta)
        self._pos_encoding_mode = check_choice("pos_encoding_mode", pos_encoding_mode, POSITIONS)
        self._window_left = window_left
        self._logits_soft_cap = logits_soft_cap
        self._sm_scale = sm_scale
        self._rope_scale = rope_scale
        self._rope_theta = rope_theta

    def _check_graph(self, batch_size: int, rows: int, num_indices: int | None, indices_buf: torch.Tensor | None) -> None:
        """A plan of a captured graph keeps to the sizes that it was captured with."""
        if batch_size != self._fixed_batch_size:
            raise SpecError(
                f"is {batch_size}; allowed: {self._fixed_batch_size}, fixed by the buffers of the graph", where="batch size"
            )
        if indices_buf is not None and num_indices is not None and num_indices > len(indices_buf):
            raise SpecError(f"has {num_indices} entries; allowed: at most {len(indices_buf)}, as its buffer", where="indices")
        if self._max_total_num_rows is not None and rows > self._max_total_num_rows:
            raise SpecError(
                f"ends with {rows} rows; allowed: at most {self._max_total_num_rows}, as in the first plan", where="qo_indptr"
            )

    def _write(self, buffer: torch.Tensor | None, values: torch.Tensor, non_blocking: bool) -> None:
        """Copies into a buffer of a graph, once the plan is not refused any more."""
        assert buffer is not None and self._writes is not None
        self._writes.append((buffer, values, non_blocking))

    def _begin(self, shape: Shape, batch: _batches.Batch, mask_bits: torch.Tensor | None = None) -> None:
        """Keeps what was planned; in a graph, plans its envelope. `mask_bits` are those that the batch's buffer will hold."""
        shape.check()
        self._shape = self._plan_info = shape
        self._batch = batch
        spec_text(self._features(shape))  # refuses what no kernel serves
        if not self._use_cuda_graph:
            return
        if self._max_total_num_rows is None:
            self._max_total_num_rows = batch.rows
            self._max_kv_entries = int(batch.kv_indptr[-1])
        if batch.kv_indices is not None:
            self._max_kv_entries = len(batch.kv_indices)
        elif int(batch.kv_indptr[-1]) > self._max_kv_entries:
            raise SpecError(
                f"ends with {int(batch.kv_indptr[-1])} rows; allowed: at most {self._max_kv_entries}, as in the first plan",
                where="kv_indptr",
            )
        features, numbers = self._features(shape), self._numbers(shape, self._window_left, 1.0)
        bounds = self._bounds(features, numbers)
        if self._captured is None or not self._captured.holds(features, bounds):
            self._captured = _batches.Captured(features, bounds, self.device)
        self._captured.plan(batch, numbers, mask_bits)

    def _features(self, shape: Shape, window_left: int | None = None) -> Features:
        window_left = self._window_left if window_left is None else window_left
        return Features(
            q_dtype=shape.q_dtype,
            kv_dtype=shape.kv_dtype,
            o_dtype=shape.o_dtype,
            group_size=shape.num_qo_heads // shape.num_kv_heads,
            head_dim_qk=shape.head_dim_qk,
            head_dim_vo=shape.head_dim_vo,
            page_size=shape.page_size,
            layout=self._kv_layout,
            causal=bool(self._causal),
            windowed=window_left >= 0,
            own_mask="" if self._batch is None else self._batch.own_mask,
            soft_cap=self._cap() > 0,
            positions=self._pos_encoding_mode,
            rope_scale=self._rope_scale or 1.0,
            rope_theta=self._rope_theta or 1e4,
            split_tokens=shape.split_tokens,
        )

    def _numbers(self, shape: Shape, window_left: int, factor: float) -> _batches.Numbers:
        scale = self._sm_scale if self._sm_scale is not None else shape.head_dim_qk**-0.5
        return _batches.Numbers(window_left, float(scale * factor), self._cap())

    def _cap(self) -> float:
        """The cap of scores; 0 for none, which numbers below 0 mean too."""
        return max(float(self._logits_soft_cap or 0.0), 0.0)

    def _bounds(self, features: Features, numbers: _batches.Numbers) -> Any:
        assert self._batch is not None and self._shape is not None and self._max_total_num_rows is not None
        return _batches.bounds_of(
            features, self._batch, numbers, self._shape.num_kv_heads, self._max_total_num_rows, self._max_kv_entries
        )

    def _attend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        factors: Factors,
        out: torch.Tensor | None,
        lse: torch.Tensor | None,
        return_lse: bool,
        window_left: int | None = None,
        sinks: torch.Tensor | None = None,
        head_scales: tuple[Any, ...] = (),
    ) -> Any:
        """Runs what was planned. `head_scales` are further arguments of a run: scales of heads of 8-bit q, k and v, or none."""
        if self._shape is None or self._batch is None:
            raise SpecError("is not there; allowed: plan() before run()", where="plan")
        shape, batch = self._shape, self._batch
        self._check_tensors(shape, batch, q, k, v)
        if window_left is not None:
            check_options(window_left, None, None, None, None)
        window_left = self._window_left if window_left is None else window_left
        o_shape = (*q.shape[:-1], shape.head_dim_vo)
        if out is not None:
            check_like("out", out, o_shape, shape.o_dtype, q.device)
        if lse is not None:
            check_like("lse", lse, q.shape[:2], torch.float32, q.device)
        if sinks is not None:
            check_buffer("sinks", sinks, "f32, one for each head of q")
            check_like("sinks", sinks, (q.shape[1],), sinks.dtype if sinks.is_floating_point() else torch.float32, q.device)
            refuse_gradients({}, sinks=sinks)
        if head_scales:
            if q.dtype not in FLOAT8 or len(head_scales) != 3:
                raise Unsupported(
                    f"has {len(head_scales)} further arguments; allowed: 3 scales of heads, with q of 8 bits", where="run"
                )
            q, of_heads = head_factors(q, (head_scales[0], head_scales[1], head_scales[2]), shape.num_kv_heads)
            factors = replace(of_heads, scores=of_heads.scores * factors.scores, values=factors.values)
        into = out if out is not None and out.dtype not in FLOAT8 else q.new_empty(o_shape, dtype=compute_dtype(shape.o_dtype))
        into_lse = lse if lse is not None and lse.is_contiguous() else q.new_empty(q.shape[:2], dtype=torch.float32)
        features, numbers = self._features(shape, window_left), self._numbers(shape, window_left, factors.scores)
        q = q.to(compute_dtype(q.dtype))
        if self._use_cuda_graph:
            self._run_envelope(features, numbers, q, k, v, into, into_lse)
        else:
            _batches.attend(features, batch, numbers, q, k, v, into, into_lse)
        result = finish(into, out, into_lse, factors, sinks, shape.o_dtype)
        if lse is not None and lse is not into_lse:
            lse.copy_(into_lse)
        return (result, into_lse if lse is None else lse) if return_lse else result

    def _run_envelope(
        self,
        features: Features,
        numbers: _batches.Numbers,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
    ) -> None:
        assert self._batch is not None and self._max_total_num_rows is not None
        captured, bounds = self._captured, self._bounds(features, numbers)
        if captured is None or not captured.serves(features, bounds, numbers):
            if q.is_cuda and torch.cuda.is_current_stream_capturing():
                raise SpecError(
                    "differ from the plan's while a graph is captured; allowed: those of plan()", where="options of run"
                )
            # One of its own, as captures read the other one.
            captured = _batches.Captured(features, bounds, self.device)
            captured.plan(self._batch, numbers)
            self._captured = captured
        rows, padded = q.shape[0], self._max_total_num_rows
        if features.page_size == 0:
            k, v = _padded(k, self._max_kv_entries), _padded(v, self._max_kv_entries)
        if rows == padded:
            captured.run(self._batch, numbers, q, k, v, out, lse)
            return
        wide_out, wide_lse = out.new_empty((padded, *out.shape[1:])), lse.new_empty((padded, lse.shape[1]))
        captured.run(self._batch, numbers, _padded(q, padded), k, v, wide_out, wide_lse)
        out.copy_(wide_out[:rows])
        lse.copy_(wide_lse[:rows])

    def _check_tensors(self, shape: Shape, batch: _batches.Batch, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        check_tensors(self.device, q=q, k=k, v=v)
        wanted = (batch.rows, shape.num_qo_heads, shape.head_dim_qk)
        if q.dim() != 3 or tuple(q.shape) != wanted:
            raise SpecError(f"has the shape {list(q.shape)}; allowed: {list(wanted)}, as planned", where="q")
        if q.dtype != shape.q_dtype:
            raise SpecError(f"has elements of {q.dtype}; allowed: {shape.q_dtype}, the q_data_type of the plan", where="q")
        head = -2 if shape.page_size == 0 or self._kv_layout == "NHD" else -3
        for name, x, dim in (("k", k, shape.head_dim_qk), ("v", v, shape.head_dim_vo)):
            if x.dim() != (4 if shape.page_size else 3):
                raise SpecError(f"has the shape {list(x.shape)}; allowed: three dimensions", where=name)
            if x.dtype != shape.kv_dtype:
                raise SpecError(f"has elements of {x.dtype}; allowed: {shape.kv_dtype}, the kv_data_type of the plan", where=name)
            if x.shape[head] != shape.num_kv_heads or x.shape[-1] != dim:
                raise SpecError(
                    f"has {x.shape[head]} heads of {x.shape[-1]}; allowed: {shape.num_kv_heads} of {dim}, as planned", where=name
                )
            if shape.page_size and x.shape[-5 - head] != shape.page_size:
                raise SpecError(f"has pages of {x.shape[-5 - head]} tokens; allowed: {shape.page_size}, as planned", where=name)

    def _sizes(self) -> tuple[int, int]:
        """Of what was planned last."""
        assert self._shape is not None and self._batch is not None
        shape, batch = self._shape, self._batch
        features, numbers = self._features(shape), self._numbers(shape, self._window_left, 1.0)
        bounds = _batches.bounds_of(features, batch, numbers, shape.num_kv_heads, batch.rows, int(batch.kv_indptr[-1]))
        return _batches.sizes(features, bounds, self.device)


def _padded(x: torch.Tensor, rows: int) -> torch.Tensor:
    """`x` with zeros behind, of at least `rows` rows."""
    if x.shape[0] >= rows:
        return x
    wide = x.new_zeros((rows, *x.shape[1:]))
    wide[: x.shape[0]] = x
    return wide


def scaled(q_scale: Any, k_scale: Any, v_scale: Any) -> Factors:
    """Factors of whole tensors."""
    return Factors(scalar("q_scale", q_scale) * scalar("k_scale", k_scale), scalar("v_scale", v_scale))
