"""The FFT codelets' statements, evaluated in Python, against the definition of the DFT."""

import cmath

import numpy as np
import pytest

from convopt.kernels import fourier


def definition(x):
    n = len(x)
    return [sum(x[j] * cmath.exp(-2j * cmath.pi * j * k / n) for j in range(n)) for k in range(n)]


def evaluate(n, x):
    """What the codelet of length n computes from x, in Python's floats."""
    program, results = fourier.codelet_program(n)
    known = program.values({f"{part}{k}": getattr(z, name) for k, z in enumerate(x) for part, name in (("re", "real"), ("im", "imag"))})
    return [complex(*(term.coefficient * known[term.operand] for term in result)) for result in results]


@pytest.mark.parametrize("n", fourier.CODELETS)
def test_codelet_is_the_definition(n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    np.testing.assert_allclose(evaluate(n, x), definition(x), atol=1e-13)


@pytest.mark.parametrize("n", fourier.CODELETS)
def test_each_basis_vector_is_transformed_exactly_enough(n):
    for j in range(n):
        unit = [complex(k == j) for k in range(n)]
        np.testing.assert_allclose(evaluate(n, unit), definition(unit), atol=4e-15)


@pytest.mark.parametrize(("n", "additions"), [(2, 4), (4, 16), (8, 52), (12, 96), (16, 144)])
def test_codelets_are_as_short_as_the_best_known(n, additions):
    program, _ = fourier.codelet_program(n)
    assert sum(len(terms) - 1 for _, terms in program.statements) <= additions


def test_trigonometry_is_exact_where_it_can_be():
    for n in range(1, 257):
        for k in range(2 * n):
            assert abs(fourier.cosine(k, n) - np.cos(2 * np.pi * k / n)) < 4e-15
            assert abs(fourier.sine(k, n) - np.sin(2 * np.pi * k / n)) < 4e-15
    assert [fourier.cosine(k, 12) for k in (0, 2, 3, 4, 6)] == [1.0, 0.5, 0.0, -0.5, -1.0]
    assert [fourier.sine(k, 12) for k in (0, 1, 3, 5, 6)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_every_length_is_made_of_codelets():
    assert list(fourier.LENGTHS) == sorted(fourier.LENGTHS)
    for n, (n1, n2) in fourier.LENGTHS.items():
        assert n1 * n2 == n
        assert {n1, n2} <= set(fourier.CODELETS)


def test_header_has_every_codelet_and_no_zero_terms():
    text = fourier.header()
    for n in fourier.CODELETS:
        assert f"static void dft_{n}(" in text
        assert n == 1 or f"static void dft_{n}_twiddled(" in text
    assert "(REAL)0.0 " not in text
    assert "(REAL)1.0 " not in text


@pytest.mark.parametrize("n", fourier.CODELETS)
@pytest.mark.parametrize("twiddled", [False, True])
def test_outputs_wait_for_the_last_input(n, twiddled):
    """Input and output may be the same memory."""
    lines = fourier.codelet(n, twiddled).splitlines()
    loads = [i for i, line in enumerate(lines) if "= load(" in line]
    stores = [i for i, line in enumerate(lines) if "store(" in line]
    assert len(loads) == 2 * n
    assert len(stores) == n
    assert max(loads) < min(stores)
