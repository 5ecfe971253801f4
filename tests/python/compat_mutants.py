"""Whether the tests of lathe.compat.flashinfer would miss an argument: each is put back to its default in turn.

Not one of the tests; it takes them hundreds of times, which is about ten minutes:

    PYTHONPATH=<build>/python LATHE_CACHE_DIR=<folder> python tests/python/compat_mutants.py [part of "symbol: argument" ...]

First the tests are run as they are, and note which of them give which argument. Then, for each argument, those tests are run
again, and what they give is replaced by the default before it arrives. Arguments of which no test fails are printed, and the
counts at the end.
"""

import collections
import contextlib
import inspect
import io
import os
import pathlib
import sys

import compat_recorder
import pytest

FILES = [str(pathlib.Path(__file__).parent / f"test_compat{name}.py") for name in ("", "_buffers", "_cascade", "_pages")]
# They change no result, or say again what other arguments say, so that nothing can miss them.
HINTS = {
    *("non_blocking", "enable_pdl", "use_fp16_qk_reduction", "use_fp16_softmax", "use_tensor_cores", "backend"),
    *("max_token_per_sequence", "max_sequence_kv", "block_tables", "seq_lens", "seq_lens_q"),
}


class Mutant(compat_recorder.Recorder):
    """Notes the tests that give an argument, or puts one back to its default."""

    tests = collections.defaultdict(set)  # of (symbol, argument)
    dropped = None

    def _wrapped(self, function, symbol_of, signature=None):
        signature = signature or inspect.signature(function)

        def changed(*args, **kwargs):
            symbol = symbol_of(args)
            # Its own call is running already, and that of plan() around _plan_impl().
            outermost = symbol is not None and self._running in (
                [symbol],
                *([*p, symbol] for p in compat_recorder.planners(symbol)),
            )
            for name in compat_recorder.given_of(signature, args, kwargs) if outermost else ():
                argument = (compat_recorder.original(symbol), name)
                if Mutant.dropped is None:
                    Mutant.tests[argument].add(os.environ["PYTEST_CURRENT_TEST"].rsplit(" ", 1)[0])
                elif argument == Mutant.dropped:
                    bound, parameter = signature.bind(*args, **kwargs), signature.parameters[name]
                    bound.arguments[name] = () if parameter.kind is parameter.VAR_POSITIONAL else parameter.default
                    args, kwargs = bound.args, bound.kwargs
            return function(*args, **kwargs)

        return super()._wrapped(changed, symbol_of, signature)


def passes(tests):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        return pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]) == 0


def main(wanted):
    compat_recorder.Recorder = Mutant
    if not passes(FILES):
        sys.exit("the tests fail as they are")
    arguments = sorted(key for key in Mutant.tests if not wanted or any(part in ": ".join(key) for part in wanted))
    tried = [key for key in arguments if key[1] not in HINTS]
    print(
        f"of {len(Mutant.tests)} arguments, {len(arguments)} asked for; {len(arguments) - len(tried)} of these are hints",
        flush=True,
    )
    unseen = 0
    for key in tried:
        Mutant.dropped = key
        if passes(sorted(Mutant.tests[key])):
            unseen += 1
            print(f"no test misses {': '.join(key)}", flush=True)
    print(f"put back to their defaults: {len(tried)}, missed by a test: {len(tried) - unseen}")


if __name__ == "__main__":
    main(sys.argv[1:])
