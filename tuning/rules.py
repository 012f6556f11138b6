"""What the user decides instead of the tuner: algorithms pinned to problems, and algorithms that must not be used.

Rules are lines of a file ``rules.txt`` in the cache's directory, or in a shared one:

    # what   problem              algorithm
    pin      n1h56w56c64*_t2_*    winograd:t=6
    block    *                    fft
    block    *_f64_*              winograd:t=6

The problem is a pattern (``*``, ``?``, ``[...]``) for the keys that ``convopt cache ls`` shows, the algorithm as conv2d's callers
name it, with as many of its parameters as matter. The same lines without their first word, separated by semicolons, are the
values of CONVOPT_PIN and CONVOPT_BLOCK; there the problem may be missing, for all.

The first pin that matches and can serve the problem is obeyed: those of the environment before the user's file, before
shared ones. Every block is obeyed. A call that names its algorithm is subject to neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from convopt.errors import ConvoptError, ShapeError

from . import cache
from .candidates import Candidate, Request, parse_algorithm
from .store import warn

FILE = "rules.txt"
KINDS = ("pin", "block")
VARIABLES = {"pin": "CONVOPT_PIN", "block": "CONVOPT_BLOCK"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. problem: a pattern of keys. origin: where it was found, for people."""

    kind: str
    problem: str
    algorithm: str
    origin: str

    def is_of(self, request: Request) -> bool:
        """Whether it is about this problem."""
        return fnmatchcase(request.key(), self.problem)

    def names(self, candidate: Candidate) -> bool:
        """Whether its algorithm is the candidate's, and the parameters it gives too."""
        name, params = parse_algorithm(self.algorithm)
        return name == candidate.algorithm and params.items() <= dict(candidate.params).items()


# What the rules were made of: variables' values and the cache's generation.
_made_of: tuple[object, ...] = ()
_rules: tuple[Rule, ...] = ()


def environment() -> tuple[str | None, ...]:
    """The values of the variables that hold rules."""
    return tuple(os.environ.get(name) for name in VARIABLES.values())


def pins(request: Request) -> list[Rule]:
    """The rules that pin an algorithm to this problem, first of all the one to be tried first. Raises ShapeError as ``rules``."""
    return [rule for rule in rules() if rule.kind == "pin" and rule.is_of(request)]


def blocked(candidate: Candidate, request: Request) -> str:
    """Why the candidate must not be chosen for this problem, "" if it may. Raises ShapeError as ``rules``."""
    found = (rule for rule in rules() if rule.kind == "block" and rule.names(candidate) and rule.is_of(request))
    return next((f"blocked by {rule.origin}" for rule in found), "")


def rules() -> tuple[Rule, ...]:
    """All rules. Files are read again when the cache is (``convopt.cache.load``).

    Raises ShapeError for an impossible rule in the environment; one in a file costs a warning, and is passed over.
    """
    global _made_of, _rules
    made_of = (*environment(), cache.generation(), cache.path())
    if made_of != _made_of:
        _rules = (*_of_environment(), *_of_files())
        _made_of = made_of
    return _rules


def _of_environment() -> Iterator[Rule]:
    for kind, variable in VARIABLES.items():
        for part in os.environ.get(variable, "").split(";"):
            words = part.split()
            if words:
                yield _rule([kind, *(["*"] if len(words) == 1 else []), *words], variable)


def _of_files() -> Iterator[Rule]:
    for folder in (cache.path(), *cache.shared_paths()):
        file = folder / FILE
        try:
            lines = file.read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            warn(f"cannot read {file}: {error}")
            continue
        yield from _of_lines(lines, str(file))


def _of_lines(lines: Iterable[str], name: str) -> Iterator[Rule]:
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        try:
            if words:
                yield _rule(words, f"{name}, line {number}")
        except ConvoptError as error:
            warn(str(error))


def _rule(words: list[str], origin: str) -> Rule:
    if len(words) != 3 or words[0] not in KINDS:
        raise ShapeError(f"{origin}: found {' '.join(words)!r}; expected pin or block, a pattern of problems, an algorithm")
    try:
        name, _ = parse_algorithm(words[2])
    except ConvoptError as error:
        raise ShapeError(f"{origin}: {error}") from None
    if name == "auto":
        raise ShapeError(f"{origin}: algorithm is 'auto', which is what there would be without the rule")
    return Rule(words[0], words[1], words[2], origin)
