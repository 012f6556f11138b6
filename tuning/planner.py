"""Choosing an algorithm for a problem: from what is remembered, by measuring, or by the cost model.

Levels (``tune``): "estimate" takes what is remembered, else the cost model's best, and never times anything; "measure"
times the candidates that the cost model leaves in the running, unless that was done before; "exhaustive" times all;
"cached" takes what is remembered or raises CacheMiss.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from convopt.algorithms import parallel
from convopt.errors import CacheMiss, DTypeError, ShapeError, UnsupportedError, WorkspaceError
from convopt.kernels import registry

from . import cache, cost_model, measure, measure_speeds, records, rules
from .candidates import Candidate, Identity, Request, applicable, candidates, parse_algorithm
from .choice import Choice, Contender
from .cost_model import Speeds
from .measure import NORMAL, Effort
from .measure_canary import Canary
from .measure_steps import Instalments, Steps, all_of
from .records import Record

__all__ = ["LEVELS", "Choice", "Contender", "Request", "Tuning", "applicable", "budget", "choose"]

LEVELS = ("estimate", "measure", "exhaustive", "cached")
#: Candidates whose estimate is so many times the best one are not measured.
PRUNE = 4.0
#: Choices kept at hand; beyond that many, all are made anew from the cache.
AT_HAND = 4096
#: What was measured on a busy machine is measured again by later processes, until it was tried so often.
NOISY_TRIES = 3
#: The cache's keys of the machine's constants, and of the time by which a new process knows that the machine is busy.
SPEEDS_KEY, CANARY_KEY = "speeds", "canary"


_measuring = threading.Lock()


def _after_fork_in_child() -> None:
    global _measuring
    _measuring = threading.Lock()  # whoever held it is not here to release it


os.register_at_fork(after_in_child=_after_fork_in_child)
# Keys of what this process measured: had it been busy around it, it would still be.
_measured_here: set[str] = set()
# The cache's generation that they belong to, and the choices made.
_at_hand: tuple[int, dict[tuple[object, ...], Choice]] = (-1, {})


def choose(request: Request, tune: str, algorithm: str = "auto", effort: Effort = NORMAL) -> Choice:
    """The algorithm to use for a request.

    tune: one of LEVELS. algorithm: "auto", a name, or a name with parameters as in "winograd:t=6": then only these
    candidates take part, and unless it is to be measured or was, the first of them is it. effort: of measuring, if it comes to that.

    Raises UnsupportedError (no such algorithm or parameters, or not for this problem), WorkspaceError (none within
    max_workspace), CacheMiss, ShapeError (no such level).
    """
    global _at_hand
    mark = (request, tune, algorithm, registry.isa(), rules.environment())
    generation, choices = _at_hand
    if generation == cache.generation():
        choice = choices.get(mark)
        if choice is not None:
            return choice
    choice = _pinned(request, tune, algorithm, effort) or _choose(request, tune, algorithm, effort)
    generation, choices = _at_hand
    if generation != cache.generation() or len(choices) >= AT_HAND:
        _at_hand = generation, choices = cache.generation(), {}
    choices[mark] = choice
    return choice


def is_free() -> bool:
    """Whether measuring could begin here and now: nobody else measures, and this is neither a parallel region nor a forked child."""
    return parallel.can_time() and not _measuring.locked()


def budget(request: Request, effort: Effort = NORMAL, tune: str = "measure") -> float:
    """Seconds that choosing would take now, roughly: 0 where nothing is left to measure."""
    if tune not in ("measure", "exhaustive"):
        return 0.0
    allowed, estimates = _admitted(request, candidates(request), "auto")
    missing = _missing(request, allowed, estimates, _remembered(request, "auto", allowed), tune)
    if not missing:
        return 0.0
    speeds = 0.0 if cache.get(SPEEDS_KEY) is not None else measure_speeds.SECONDS_OF_ALL
    return speeds + measure.cost(request.shape, [estimates[each] for each in missing], effort.limit, effort.rounds)


def _pinned(request: Request, tune: str, algorithm: str, effort: Effort) -> Choice | None:
    """The choice of the rule that pins this problem's algorithm, if one does and that algorithm can serve it."""
    if algorithm != "auto":
        return None
    for pin in rules.pins(request):
        try:
            choice = _choose(request, tune, pin.algorithm, effort)
        except (UnsupportedError, WorkspaceError):  # a rule for many problems need not fit each of them
            continue
        return replace(choice, source="pinned", note=pin.origin)
    return None


def remeasure(request: Request, algorithm: str = "auto") -> tuple[Record, ...]:
    """Measure as "measure" would had nothing been remembered; what is remembered stays as it is, see ``remember``."""
    found = candidates(request, algorithm)
    with _measuring:
        allowed, estimates = _admitted(request, found, algorithm)
        missing = _missing(request, allowed, estimates, (), "measure")
        # First of all what is remembered as the best, however bad its estimate: it is what the question is about.
        best = records.select(_of(_remembered(request, algorithm, found), allowed), request)
        chosen = [each for each in allowed if best is not None and each.identity == best.identity]
        Canary.recall(cache.get(CANARY_KEY))
        return tuple(measure.measure(request, chosen + [each for each in missing if each not in chosen], estimates))


def remember(request: Request, fresh: Iterable[Record], algorithm: str = "auto") -> None:
    """Take records of ``remeasure`` over, in the place of earlier ones of the same candidates."""
    known = _remembered(request, algorithm, candidates(request, algorithm))
    cache.put(_key(request, algorithm), records.to_json(records.merge(known, fresh)))


def _choose(request: Request, tune: str, algorithm: str, effort: Effort) -> Choice:
    if not isinstance(tune, str):
        raise DTypeError(f"tune is {tune!r}; expected one of {', '.join(LEVELS)}")
    if tune not in LEVELS:
        raise ShapeError(f"tune is {tune!r}; expected one of {', '.join(LEVELS)}")
    found = candidates(request, algorithm)
    allowed, estimates = _admitted(request, found, algorithm)
    named = parse_algorithm(algorithm)[0] != "auto"
    known: tuple[Record, ...] = ()
    source = "cache"
    if not request.deterministic:
        known = _remembered(request, algorithm, found)
        if tune in ("measure", "exhaustive") and not (named and len(allowed) == 1) and _can_measure(request):
            known, measured = _measured(request, tune, algorithm, found, effort)
            source = "measured" if measured else "cache"
            estimates = _estimates(request, found)
    best = records.select(_of(known, allowed), request)
    if best is not None:
        chosen = next(each for each in allowed if each.identity == best.identity)
    elif tune == "cached" and not (named and len(allowed) == 1) and _is_measurable(request):
        raise CacheMiss(f"tune is 'cached', and nothing is remembered of {request.key()} in {cache.path()} for this machine")
    else:
        rejected = {record.identity for record in known if record.rejected}
        sound = [each for each in allowed if each.identity not in rejected] or allowed
        chosen = sound[0] if named else min(sound, key=lambda each: estimates[each])
        source = "named" if named else "estimate"
    if named and len(allowed) == 1:
        source = "named"
    contenders = _contenders(request, found, chosen, estimates, known, _refused(request, found, algorithm))
    seconds = estimates[chosen] if best is None or best.fastest is None else best.fastest
    note = "while it was busy" if best is not None and best.noisy else ""
    return Choice(chosen.algorithm, dict(chosen.params), source, seconds, None if best is None else best.error, contenders, note)


def _admitted(request: Request, found: Sequence[Candidate], algorithm: str) -> tuple[list[Candidate], dict[Candidate, float]]:
    """The candidates within the request's limits, and the estimates of all."""
    refused = _refused(request, found, algorithm)
    allowed = [each for each in found if each not in refused]
    if not allowed:
        blocked = [reason for reason in refused.values() if reason.startswith("blocked")]
        if len(blocked) == len(found):
            raise UnsupportedError(f"every algorithm for {request.shape.key()} is {blocked[0]}")
        if request.finite_only and all(each.spreads_nonfinite for each in found):
            raise UnsupportedError(f"algorithm is {algorithm!r}, which spreads NaN and Inf; accuracy='ieee' excludes such algorithms")
        least = min((each.workspace_bytes for each, reason in refused.items() if reason.startswith("workspace")), default=0)
        raise WorkspaceError(f"max_workspace is {request.max_workspace} bytes; {request.shape.key()} needs at least {least}", least)
    return allowed, _estimates(request, found)


def _refused(request: Request, found: Sequence[Candidate], algorithm: str) -> dict[Candidate, str]:
    """The candidates that must not be chosen, and why: by the request's limits or, unless the caller named them, by a rule."""
    blocked = {} if algorithm != "auto" else {each: reason for each in found if (reason := rules.blocked(each, request))}
    allowed = [each for each in found if each not in blocked]
    return blocked | records.admissible(allowed, request)[1]


def _estimates(request: Request, found: Iterable[Candidate]) -> dict[Candidate, float]:
    speeds = None if request.deterministic else Speeds.from_json(cache.get(SPEEDS_KEY))
    if speeds is None:
        speeds = cost_model.TYPICAL[registry.isa()]
    return {each: cost_model.estimate(each, request, speeds) for each in found}


def _key(request: Request, algorithm: str) -> str:
    """Where measurements of an algorithm that was named are kept: not among those "auto" chooses from, where it would win alone."""
    name, _ = parse_algorithm(algorithm)
    return request.key() if name == "auto" else f"{request.key()}_{name}"


def _remembered(request: Request, algorithm: str, found: Sequence[Candidate]) -> tuple[Record, ...]:
    """The records of candidates that still exist."""
    own = records.from_json(cache.get(_key(request, algorithm)))
    shared = records.from_json(cache.get(_key(request, "auto")))
    return records.alive(records.merge(shared, own), found)


def _of(known: Iterable[Record], allowed: Iterable[Candidate]) -> list[Record]:
    """The records of these candidates."""
    identities = {each.identity for each in allowed}
    return [record for record in known if record.identity in identities]


def _is_measurable(request: Request) -> bool:
    """Whether anything could ever be remembered of it: not where there is nothing to compute, or nothing may be timed."""
    return not (request.deterministic or request.shape.is_empty or 0 in request.shape.input_shape)


def _can_measure(request: Request) -> bool:
    """Nor where timings mean nothing now, or as many threads as asked for cannot run."""
    return _is_measurable(request) and parallel.can_time() and parallel.current(request.threads) == request.threads


def _missing(
    request: Request, allowed: Sequence[Candidate], estimates: dict[Candidate, float], known: Iterable[Record], tune: str
) -> list[Candidate]:
    """The candidates to measure that were not yet, the most promising first.

    The cost model's best may be its worst mistake: so everything it thinks faster than what was measured takes part too.
    """
    settled = (record for record in known if request.key() in _measured_here or not 0 < record.noisy < NOISY_TRIES)
    seen = {record.identity for record in settled if tune != "exhaustive" or record.seconds is not None or record.rejected}
    limit = PRUNE * min(estimates[each] for each in allowed)
    best = records.select(_of(known, allowed), request)
    if best is not None and best.fastest is not None:
        limit = max(limit, best.fastest)
    missing = [each for each in allowed if each.identity not in seen and (tune == "exhaustive" or estimates[each] <= limit)]
    return sorted(missing, key=lambda each: estimates[each])


class Tuning:
    """The measuring that "measure" stands for, paid for little by little; ``done`` tells whether nothing is left of it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._rest = Instalments(_measuring_steps(request, "measure", "auto", candidates(request), NORMAL))
        self.done = False

    def pay(self, seconds: float) -> float:
        """Go on for no more than so many seconds, and return how many it took: none while somebody else measures."""
        if not _can_measure(self._request):
            self.done = True
            return 0.0
        if not _measuring.acquire(blocking=False):
            return 0.0
        before = self._rest.seconds
        try:
            self._rest.pay(seconds)
        finally:
            _measuring.release()
        self.done = self._rest.done
        return self._rest.seconds - before


def _measured(request: Request, tune: str, algorithm: str, found: Sequence[Candidate], effort: Effort) -> tuple[tuple[Record, ...], bool]:
    """All records once nothing is missing, and whether anything had to be measured for that."""
    with _measuring:  # two measurements at a time would measure each other
        return all_of(_measuring_steps(request, tune, algorithm, found, effort))


def _measuring_steps(
    request: Request, tune: str, algorithm: str, found: Sequence[Candidate], effort: Effort
) -> Steps[tuple[tuple[Record, ...], bool]]:
    key = _key(request, algorithm)
    measured = False
    tried: set[Candidate] = set()
    if cache.get(SPEEDS_KEY) is None:
        cache.put(SPEEDS_KEY, measure_speeds.speeds().to_json())
        yield
    Canary.recall(cache.get(CANARY_KEY))
    allowed, estimates = _admitted(request, found, algorithm)
    while True:
        known = _remembered(request, algorithm, found)
        missing = [each for each in _missing(request, allowed, estimates, known, tune) if each not in tried]
        if not missing:
            return known, measured
        tried.update(missing)
        # The best so far runs again beside the new ones: times of different hours do not compare.
        best = records.select(_of(known, allowed), request)
        anchor = [each for each in allowed if best is not None and each.identity == best.identity]
        fresh = yield from measure.measuring(
            request,
            anchor + [each for each in missing if each not in anchor],
            None if tune == "exhaustive" else estimates,
            limit=effort.limit,
            rounds=effort.rounds,
        )
        cache.put(key, records.to_json(records.merge(known, records.counted(known, fresh))))
        if Canary.usual() != cache.get(CANARY_KEY):
            cache.put(CANARY_KEY, Canary.usual())
        _measured_here.add(request.key())
        measured = True


def _contenders(
    request: Request,
    found: Sequence[Candidate],
    chosen: Candidate,
    estimates: dict[Candidate, float],
    known: Iterable[Record],
    refused: dict[Candidate, str],
) -> tuple[Contender, ...]:
    by_identity = {record.identity: record for record in known}
    contenders = []
    for each in found:
        record = by_identity.get(each.identity)
        error = each.expected_error if record is None or record.error is None else record.error
        verdict = "chosen" if each is chosen else refused.get(each) or _verdict(request, each, chosen, estimates, by_identity)
        contenders.append(
            Contender(
                each.algorithm,
                dict(each.params),
                estimates[each],
                None if record is None else record.fastest,
                None if record is None else record.spread,
                error,
                each.workspace_bytes,
                each.packed_bytes,
                verdict,
            )
        )
    contenders.sort(key=lambda each: (each.verdict != "chosen", each.seconds is None, each.seconds or each.estimate))
    return tuple(contenders)


def _verdict(
    request: Request,
    candidate: Candidate,
    chosen: Candidate,
    estimates: dict[Candidate, float],
    known: dict[Identity, Record],
) -> str:
    """Why an admissible candidate was not chosen."""
    record, winner = known.get(candidate.identity), known.get(chosen.identity)
    if record is not None and record.rejected:
        return record.rejected
    if record is None or record.fastest is None or winner is None or winner.fastest is None:
        ratio = estimates[candidate] / estimates[chosen]
        return f"not measured; estimated {ratio:.2f} times the chosen one's time"
    if record.error is not None and record.error > request.accuracy:
        return f"error {record.error:.1e} is above {request.accuracy:.1e}"
    ratio = record.fastest / winner.fastest
    return f"{ratio:.2f} times slower" if ratio > records.TIE else "as fast, but less accurate or with a larger workspace"
