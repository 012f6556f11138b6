"""The floors of the house: imports go downward only, and importing convopt brings in nothing heavy.

Python files are parsed; of Cython files, every line that imports is read.
"""

import ast
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Floors from the ground up: a module imports from floors below its own only, or from modules of its own row of FELLOWS.
FLOORS = [
    ["convopt.errors"],
    ["convopt.shape"],
    ["convopt.kernels"],
    ["convopt.algorithms"],
    ["convopt.plan"],
    ["convopt.tuning.onednn"],
    ["convopt.tuning.machine", "convopt.tuning.candidates", "convopt.tuning.networks", "convopt.tuning.store"],
    [
        "convopt.tuning.cache",
        "convopt.tuning.cost_model",
        "convopt.tuning.check",
        "convopt.tuning.records",
        "convopt.tuning.choice",
        "convopt.tuning.recording",
        "convopt.tuning.models",
        "convopt.tuning.measure_canary",
        "convopt.tuning.measure_steps",
    ],
    ["convopt.tuning.measure_race"],
    ["convopt.tuning.measure"],
    ["convopt.tuning.rules", "convopt.tuning.measure_speeds"],
    ["convopt.tuning.planner", "convopt.tuning.exchange"],
    ["convopt.tensorflow"],
    ["convopt.configuration"],
    ["convopt.api", "convopt.cache"],
    ["convopt.compat", "convopt.pictures"],
    ["convopt"],
    ["convopt.bench"],
    ["convopt.cli"],
]
#: Packages whose modules may import each other.
PACKAGES = ("convopt.kernels", "convopt.algorithms", "convopt.compat", "convopt.bench", "convopt.cli")
#: What each floor may import from outside, besides the standard library.
OUTSIDE = {"convopt.cli": {"numpy", "typer", "rich", "archspec", "matplotlib"}}
EVERYWHERE = {"numpy", "cython", "libc", "cpython"}
#: Imports inside functions, made only when somebody asks for what needs them.
LAZY = {("convopt.api", "convopt.tensorflow"), ("convopt.tensorflow", "tensorflow"), ("convopt.tuning.models", "onnx")}


def modules():
    """Every module's name and file: of tuning/ under the name it is installed by."""
    for path in sorted([*ROOT.glob("convopt/**/*.py"), *ROOT.glob("convopt/**/*.pyx"), *ROOT.glob("tuning/**/*.py")]):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[0] == "tuning":
            parts.insert(0, "convopt")
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), path


MODULES = dict(modules())


def imports(name, path):
    """(imported module, whether inside a function), under `if TYPE_CHECKING:` excepted: that is for the type checker alone."""
    if path.suffix == ".pyx":
        for line in path.read_text().splitlines():
            match = re.match(r"( *)(?:from\s+([\w.]+)\s+c?import\s+(.*)|c?import\s+([\w., ]+))", line)
            if match:
                indent, module, names, plain = match.groups()
                for target in _targets(module, names) if module else re.split(r",\s*", plain.split(" as ")[0]):
                    yield target.strip(), bool(indent)
        return
    tree = ast.parse(path.read_text())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    yield from _imports(tree, package, inside=False)


def _imports(node, package, inside):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = package.rsplit(".", child.level - 1)[0] if child.level else ""
            module = ".".join(part for part in (base, child.module) if part)
            yield from ((target, inside) for target in _targets(module, ", ".join(alias.name for alias in child.names)))
        yield from _imports(child, package, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def _targets(module, names):
    """The modules behind `from module import names`: a name may be a module itself."""
    submodules = [f"{module}.{name.split(' as ')[0].strip()}" for name in names.strip("() ").split(",")]
    known = [name for name in submodules if name in MODULES]
    return known if len(known) == len(submodules) else [module, *known]


def floor_of(name):
    """Index in FLOORS of the longest entry that names the module or a package around it."""
    found = [
        (len(entry), level)
        for level, floor in enumerate(FLOORS)
        for entry in floor
        if name == entry or (name.startswith(entry + ".") and entry != "convopt")
    ]
    return max(found)[1] if found else None


def same_package(first, second):
    return any(all(name == package or name.startswith(package + ".") for name in (first, second)) for package in PACKAGES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downward(name):
    if name == "convopt.tuning":
        assert not list(imports(name, MODULES[name])), "the package of the tuner imports nothing by itself"
        return
    own = floor_of(name)
    assert own is not None, f"{name} has no floor: give it one in FLOORS"
    for target, inside in imports(name, MODULES[name]):
        if not target.startswith("convopt"):
            continue
        level = floor_of(target)
        fine = (level is not None and level < own) or same_package(name, target) or (inside and (name, target) in LAZY)
        assert fine, f"{name} imports {target}, which is not below it"


# The benchmark races other libraries, in processes of their own: it may import whatever they need.
@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("convopt.bench")])
def test_nothing_foreign_is_imported(name):
    allowed = EVERYWHERE | OUTSIDE.get(next((floor for floor in OUTSIDE if name.startswith(floor)), ""), set())
    for target, inside in imports(name, MODULES[name]):
        top = target.partition(".")[0]
        fine = top == "convopt" or top in sys.stdlib_module_names or top in allowed or (inside and (name, top) in LAZY)
        assert fine, f"{name} imports {target}"


def test_leaves_import_nothing_of_ours():
    assert not [target for target, _ in imports("convopt.errors", MODULES["convopt.errors"]) if target.startswith("convopt")]
    assert {target for target, _ in imports("convopt.shape", MODULES["convopt.shape"]) if target.startswith("convopt")} == {
        "convopt.errors"
    }


def test_algorithms_do_not_know_each_other():
    """Adding or taking away an algorithm changes one row of the table, and no other algorithm."""
    from convopt.algorithms import ALGORITHMS

    for name in ALGORITHMS:
        for target, _ in imports(f"convopt.algorithms.{name}", MODULES[f"convopt.algorithms.{name}"]):
            others = [other for other in ALGORITHMS if other != name and target == f"convopt.algorithms.{other}"]
            assert not others, f"{name} imports {target}"


def test_only_the_measurer_reads_clocks():
    """One timer, in measure; conv2d counts what calls took, the cache dates its files, the command line its progress."""
    for name, path in MODULES.items():
        clocks = re.findall(r"\b(?:perf_counter|monotonic|process_time)(?:_ns)?\b", path.read_text())
        readers = ("convopt.tuning.measure", "convopt.configuration", "convopt.cli", "convopt.bench")
        assert not clocks or name.startswith(readers), f"{name} uses {clocks[0]}"


def test_the_reader_of_imports_reads_them_all(tmp_path):
    """The test's own tool: what it misses, the others cannot find."""
    python = tmp_path / "module.py"
    python.write_text(
        "from __future__ import annotations\nimport os, convopt.shape as s\nfrom . import api\nfrom .plan import ConvPlan\n"
        "from convopt.tuning import planner\nfrom convopt.errors import A, B\ndef f():\n    from convopt import tensorflow\n"
        "if TYPE_CHECKING:\n    import convopt.cli\n"
    )
    assert [entry for entry in imports("convopt.module", python) if "convopt" in entry[0]] == [
        ("convopt.shape", False), ("convopt.api", False), ("convopt.plan", False), ("convopt.tuning.planner", False),
        ("convopt.errors", False), ("convopt.tensorflow", True),
    ]  # fmt: skip
    cython = tmp_path / "module.pyx"
    cython.write_text(
        "cimport numpy as cnp\nfrom libc.math cimport sqrt\nfrom convopt.algorithms.memory cimport Buffer\nimport convopt.plan\n"
        "from convopt.tuning import cache, planner\ndef f():\n    from convopt.cli import main\n"
    )
    assert [entry for entry in imports("convopt.module", cython) if "convopt" in entry[0]] == [
        ("convopt.algorithms.memory", False), ("convopt.plan", False), ("convopt.tuning.cache", False), ("convopt.tuning.planner", False),
        ("convopt.cli", True),
    ]  # fmt: skip


HEAVY = ("tensorflow", "typer", "rich", "matplotlib", "archspec", "scipy", "sklearn", "multiprocessing", "asyncio")


def test_importing_convopt_imports_nothing_heavy():
    code = f"import sys, numpy; before = set(sys.modules); import convopt; print(*(set({HEAVY}) & (set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_computing_imports_nothing_heavy():
    code = (
        "import sys, numpy as np, convopt; convopt.conv2d(np.ones((1, 9, 9, 4), 'f4'), np.ones((3, 3, 4, 4), 'f4'));"
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_importing_convopt_is_quick():
    """At most 0.15 s more than numpy alone. CPU time, so that other processes do not matter; one good median is enough."""
    code = "import time; import numpy; before = time.process_time(); import convopt; print(time.process_time() - before)"

    def seconds():
        return float(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=os.environ).stdout
        )

    seconds()  # compiles what is not compiled yet
    medians = []
    for _ in range(3):
        medians.append(statistics.median(seconds() for _ in range(5)))
        if medians[-1] <= 0.15:
            return
    pytest.fail(f"import convopt takes {min(medians):.3f} s more than numpy; 0.15 s is the limit")
