"""The engine, devices and prepared kernels that this process shares."""

from __future__ import annotations

import functools

from lathe import _lathe

_MOST_PREPARED = 256


class Engine:
    """What compiles kernels and keeps them, apart from the one that this process shares.

    Knobs of the cache and the compiler are read when it is made. Every `lathe.Attention` may be given one.

    Parameters
    ----------
    unsafe_cuda : bool
        Whether kernels may hold CUDA text of callers (`lathe.expr.unsafe_cuda`), which runs as it stands; each
        `lathe.Attention` must ask for it too.
    """

    def __init__(self, *, unsafe_cuda: bool = False) -> None:
        self._engine = _lathe.Engine(unsafe_cuda=unsafe_cuda)


@functools.cache
def engine() -> _lathe.Engine:
    """The engine of this process, made when first asked for; knobs of the cache and the compiler are read then."""
    return _lathe.Engine()


@functools.cache
def host() -> _lathe.Device:
    """The host executor, with the options of the environment."""
    return _lathe.host_device()


@functools.lru_cache(maxsize=_MOST_PREPARED)
def prepared(spec: str, device: _lathe.Device) -> _lathe.PreparedAttention:
    """The kernel of a spec in its JSON form, kept loaded while it is among those used last."""
    return _lathe.PreparedAttention(engine(), device, _lathe.AttentionSpec.from_json(spec))
