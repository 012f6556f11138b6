"""Generator of the FFT codelets: straight-line complex DFTs of small lengths, as C on the vectors of simd/vector.h.

A DFT is linear, so a codelet is a list of statements ``t = sum of coefficient * operand``. Two lazinesses make them
short: a coefficient that applies to a whole value is carried along and becomes part of a later multiply-add, and
zeros are never written. The same list of statements is written out as C and evaluated by the tests.

    X[k] = sum over n of x[n] * exp(-2 pi i k n / length)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

#: Lengths that have a codelet.
CODELETS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16)

#: Transform length -> (n1, n2), the codelets its two passes use; adding a length is adding a row.
LENGTHS: dict[int, tuple[int, int]] = {
    1: (1, 1),
    4: (4, 1),
    6: (6, 1),
    8: (8, 1),
    10: (10, 1),
    12: (12, 1),
    16: (4, 4),
    20: (4, 5),
    24: (4, 6),
    28: (4, 7),
    32: (4, 8),
    36: (6, 6),
    40: (8, 5),
    48: (6, 8),
    56: (8, 7),
    64: (8, 8),
    72: (12, 6),
    80: (8, 10),
    96: (12, 8),
    120: (12, 10),
    128: (16, 8),
    144: (12, 12),
    160: (16, 10),
    192: (16, 12),
    256: (16, 16),
}


@dataclass(frozen=True)
class Term:
    """A real value: coefficient * operand."""

    coefficient: float
    operand: str

    def times(self, factor: float) -> Term:
        """This value times a constant."""
        return Term(self.coefficient * factor, self.operand)


Complex = tuple[Term, Term]


@dataclass
class Program:
    """Statements in order: (name, terms of its sum)."""

    statements: list[tuple[str, list[Term]]] = field(default_factory=list)

    def total(self, *terms: Term) -> Term:
        """The sum of terms, computed by a new statement unless one term is all there is."""
        kept = [term for term in terms if term.coefficient]
        if not kept:
            return Term(0.0, "")
        if len(kept) == 1:
            return kept[0]
        # What the terms have in common is left for whoever uses the sum; a leading minus would cost an instruction.
        common = kept[0].coefficient if len({abs(term.coefficient) for term in kept}) == 1 else math.copysign(1.0, kept[0].coefficient)
        name = f"t{len(self.statements)}"
        self.statements.append((name, [Term(term.coefficient / common, term.operand) for term in kept]))
        return Term(common, name)

    def values(self, inputs: dict[str, float]) -> dict[str, float]:
        """Every name's value for given inputs: what the C would compute."""
        known = dict(inputs)
        for name, terms in self.statements:
            known[name] = sum(term.coefficient * known[term.operand] for term in terms)
        return known


def cosine(k: int, n: int) -> float:
    """cos(2 pi k / n), exact where it is 0, 1/2 or 1 in size."""
    k %= n
    if 4 * k in (n, 3 * n):
        return 0.0
    value = math.cos(2 * math.pi * k / n)
    return round(2 * value) / 2 if abs(value - round(2 * value) / 2) < 1e-15 else value


def sine(k: int, n: int) -> float:
    """sin(2 pi k / n), exact where it is 0, 1/2 or 1 in size."""
    return cosine(4 * k - n, 4 * n)


def dft(program: Program, x: list[Complex]) -> list[Complex]:
    """The DFT of x, by the decomposition its length calls for."""
    n = len(x)
    if n == 1:
        return x
    smallest = next(p for p in range(2, n + 1) if n % p == 0)
    power = smallest
    while n % (power * smallest) == 0:
        power *= smallest
    if power < n:
        return _coprime(program, x, power)
    if power == 2:
        return [_sum(program, x[0], x[1]), _sum(program, x[0], x[1], -1.0)]
    if power == smallest:
        return _prime(program, x)
    return _same_base(program, x, 4 if n == 16 else smallest)


def _sum(program: Program, a: Complex, b: Complex, factor: float = 1.0) -> Complex:
    return program.total(a[0], b[0].times(factor)), program.total(a[1], b[1].times(factor))


def _prime(program: Program, x: list[Complex]) -> list[Complex]:
    """An odd prime length: inputs j and n - j share cosines and negate sines."""
    n = len(x)
    half = range(1, n // 2 + 1)
    even = {j: _sum(program, x[j], x[n - j]) for j in half}
    odd = {j: _sum(program, x[j], x[n - j], -1.0) for j in half}
    result: list[Complex] = [x[0]] * n
    result[0] = (
        program.total(x[0][0], *(even[j][0] for j in half)),
        program.total(x[0][1], *(even[j][1] for j in half)),
    )
    for k in half:
        real, imaginary = (program.total(x[0][part], *(even[j][part].times(cosine(j * k, n)) for j in half)) for part in (0, 1))
        turned_real, turned_imaginary = (program.total(*(odd[j][part].times(sine(j * k, n)) for j in half)) for part in (0, 1))
        # X[k] = (real, imaginary) - i * turned, and X[n - k] the same with + i.
        for index, sign in ((k, 1.0), (n - k, -1.0)):
            result[index] = (
                program.total(real, turned_imaginary.times(sign)),
                program.total(imaginary, turned_real.times(-sign)),
            )
    return result


def _coprime(program: Program, x: list[Complex], n1: int) -> list[Complex]:
    """Length n1 * n2 without common factor: two passes and no twiddle factors (Good and Thomas)."""
    n = len(x)
    n2 = n // n1
    rows = [dft(program, [x[(n2 * a + n1 * b) % n] for a in range(n1)]) for b in range(n2)]
    columns = [dft(program, [row[k1] for row in rows]) for k1 in range(n1)]
    return [columns[k % n1][k % n2] for k in range(n)]


def _same_base(program: Program, x: list[Complex], n1: int) -> list[Complex]:
    """Length n1 * n2 of one prime: two passes with twiddle factors between (Cooley and Tukey)."""
    n = len(x)
    n2 = n // n1
    rows = [dft(program, x[b::n2]) for b in range(n2)]
    columns = [dft(program, [_turned(program, row[k1], b * k1, n) for b, row in enumerate(rows)]) for k1 in range(n1)]
    return [columns[k % n1][k // n1] for k in range(n)]


def _turned(program: Program, z: Complex, k: int, n: int) -> Complex:
    """z * exp(-2 pi i k / n)."""
    c, s = cosine(k, n), sine(k, n)
    return program.total(z[0].times(c), z[1].times(s)), program.total(z[1].times(c), z[0].times(-s))


@cache
def codelet_program(n: int) -> tuple[Program, list[Complex]]:
    """The statements of the DFT of re0 + i im0, re1 + i im1, ... and its results."""
    program = Program()
    results = dft(program, [(Term(1.0, f"re{k}"), Term(1.0, f"im{k}")) for k in range(n)])
    return program, results


def _c_term(term: Term, leading: bool) -> str:
    sign = "-" if term.coefficient < 0 else "" if leading else "+"
    size = abs(term.coefficient)
    return f"{sign} {term.operand}" if size == 1 else f"{sign} (REAL){size!r} * {term.operand}"


def _c_sum(terms: list[Term]) -> str:
    return " ".join(_c_term(term, index == 0) for index, term in enumerate(terms)).strip()


def _loads_sums_and_stores(program: Program, results: list[Complex], twiddled: bool) -> Iterator[str]:
    """The statements of a codelet in C: inputs are loaded where they are first needed and outputs stored once they are known.

    Compilers keep this order, and registers are few. No output is stored before all inputs are loaded: both may be one.
    """
    known: set[str] = set()
    inputs, waiting = 2 * len(results), list(enumerate(results))
    for name, terms in [*program.statements, ("", [])]:
        for term in [*terms] if name else [part for _, value in waiting for part in value]:
            if term.operand not in known and term.operand[:2] in ("re", "im"):
                known.add(term.operand)
                inputs -= 1
                part, number = term.operand[:2], term.operand[2:]
                yield f"        const vec {part}{number} = load({part} + {number} * step);"
        if name:
            known.add(name)
            yield f"        const vec {name} = {_c_sum(terms)};"
        if inputs:
            continue
        for k, value in waiting:
            if all(term.operand in known for term in value):
                yield _c_output(k, value, twiddled and k > 0)
        waiting = [(k, value) for k, value in waiting if any(term.operand not in known for term in value)]


def _c_output(k: int, value: Complex, twiddled: bool) -> str:
    real, imaginary = (_c_sum([part]) for part in value)
    if not twiddled:
        return f"        store(to_re + {k} * to_step, {real}); store(to_im + {k} * to_step, {imaginary});"
    return (
        f"        {{ const vec r = {real}, m = {imaginary};"
        f" const REAL c = twiddle[{2 * k - 2}], s = twiddle[{2 * k - 1}];"
        f" store(to_re + {k} * to_step, c * r + s * m); store(to_im + {k} * to_step, c * m - s * r); }}"
    )


def codelet(n: int, twiddled: bool) -> str:
    """C text of one codelet; contract at the head of fft-inl.h."""
    program, results = codelet_program(n)
    lines = [
        f"static void dft_{n}{'_twiddled' if twiddled else ''}(CODELET_ARGUMENTS) {{",
        "    for (; count > 0; count--, re += next, im += next, to_re += to_next, to_im += to_next) {",
    ]
    lines += _loads_sums_and_stores(program, results, twiddled)
    if twiddled:
        lines.append(f"        twiddle += {2 * (n - 1)};")
    lines += ["    }", "}"]
    return "\n".join(lines)


def header() -> str:
    """The text of generated/fft-codelets.h: all codelets and the two tables that find them by length."""
    parts = ["/* Written by fourier.py: complex DFT codelets; included by fft-inl.h. */"]
    for twiddled in (False, True):
        suffix = "_twiddled" if twiddled else ""
        lengths = [n for n in CODELETS if n > 1 or not twiddled]
        parts += [codelet(n, twiddled) for n in lengths]
        rows = ", ".join(f"[{n}] = dft_{n}{suffix}" for n in lengths)
        parts.append(f"static codelet *const codelets{suffix}[{max(CODELETS) + 1}] = {{{rows}}};")
    return "\n\n".join(parts) + "\n"
