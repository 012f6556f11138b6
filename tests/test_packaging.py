"""What users install: the sdist holds all that the wheel is built from, and the wheel works outside the source tree."""

import subprocess
import sys
import sysconfig
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def run(*command, cwd):
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    build = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    return folder / run(sys.executable, "-c", build, folder, cwd=TREE).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the sdist, far from the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, sdist, cwd=folder)
    return next(folder.glob("*.whl"))


def test_sdist_holds_sources_and_nothing_built(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [
        "setup.py",
        "pyproject.toml",
        "LICENSE",
        "Makefile",
        "convopt/plan.pyx",
        "convopt/kernels/isa/avx512_f32.c",
        "tuning/planner.py",
    ]
    assert not set(wanted) - names
    built = [name for name in names if name.endswith((".so", ".o", ".a", ".pyc")) or "/generated/" in name or name.startswith("build/")]
    assert not built
    assert not [name for name in names if name.endswith(".c") and name.removesuffix(".c") + ".pyx" in names]


def test_wheel_holds_types_and_no_sources_of_the_extensions(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"convopt/py.typed", "convopt/plan.pyi", "convopt/tuning/shapes/lenet5.txt", "convopt/cli/app.py"} <= names
    assert {"convopt/bench/engines/worker.py", "convopt/bench/templates/report.html.j2", "convopt/tuning/shapes/public.txt"} <= names
    assert not [name for name in names if name.endswith((".pyx", ".c", ".o", ".a")) or name.startswith(("tests/", "tuning/"))]
    licences = [name for name in names if name.endswith("LICENSE")]
    assert licences


def test_wheel_works_outside_the_tree(wheel, tmp_path):
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python = venv / "bin" / "python"
    # NumPy and threadpoolctl come from the environment of the tests: a path only, so its editable convopt stays behind.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "numpy-of-the-tests.pth").write_text(sysconfig.get_path("purelib"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    code = """
        import numpy as np, convopt
        assert convopt.__file__.startswith(r"%s"), convopt.__file__
        x = np.arange(2 * 6 * 7 * 3, dtype="f4").reshape(2, 6, 7, 3)
        y = convopt.conv2d(x, np.ones((3, 3, 3, 4), "f4"), padding="SAME")
        assert y.shape == (2, 6, 7, 4)
        # Winograd rounds where the direct sum of small integers does not, and either may be chosen.
        assert np.isclose(y[0, 1, 1, 0], x[0, :3, :3].sum())
        from convopt.tuning import networks
        assert "lenet5" in networks.networks()
        print(convopt.conv2d(x, np.ones((3, 3, 3, 4), "f4"), tune="estimate").sum() > 0)
    """
    code = textwrap.dedent(code) % venv
    assert run(python, "-P", "-c", code, cwd=tmp_path).strip() == "True"
