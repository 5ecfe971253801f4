"""Calls that are refused leave their wrappers as they were."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from lathe.compat.flashinfer._wrapper import Wrapper

_Call = TypeVar("_Call", bound=Callable[..., Any])


@contextlib.contextmanager
def together(wrappers: Sequence[Wrapper]) -> Iterator[None]:
    """Plans in here all hold, or none does.

    Captured graphs read the buffers of a wrapper and the workspace of its envelope. Buffers are written at the end, when nothing is
    refused any more; an envelope, whose plan may be refused itself, is planned again as before.
    """
    before = []
    for wrapper in wrappers:
        captured = wrapper._captured
        before.append((wrapper, dict(vars(wrapper)), captured, captured.planned if captured is not None else None))
        wrapper._writes = []
    try:
        yield
    except BaseException:
        for wrapper, attributes, captured, planned in before:
            vars(wrapper).clear()
            vars(wrapper).update(attributes)
            if captured is not None and planned is not None and captured.planned is not planned:
                captured.plan(*planned)
        raise
    for wrapper in wrappers:
        writes, wrapper._writes = wrapper._writes or [], None
        for buffer, values, non_blocking in writes:
            buffer[: len(values)].copy_(values, non_blocking=non_blocking)


def all_or_nothing(call: _Call) -> _Call:
    """A plan, or a run with options of its own, that leaves the wrapper as it was when it is refused."""

    @functools.wraps(call)
    def restoring(self: Wrapper, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, Wrapper) or self._writes is not None:  # refused by `call`, or one of several plans
            return call(self, *args, **kwargs)
        with together([self]):
            return call(self, *args, **kwargs)

    return restoring  # type: ignore[return-value]
