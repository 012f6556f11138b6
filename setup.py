"""The native build: one static library per instruction set, one extension per .pyx."""

import os
import subprocess
import sys
from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = "convopt/kernels"
subprocess.run([sys.executable, f"{KERNELS}/generate.py"], check=True)
HEADERS = [header for folder in ("", "simd/", "generated/") for header in glob(f"{KERNELS}/{folder}*.h")]
COMMON = ["-O3", "-std=gnu11", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wall"]
# Only these files may use an instruction set beyond the baseline: dispatch.c decides at run time whether they are entered.
ISAS = {
    "generic": [],
    "avx2": ["-mavx2", "-mfma", "-mprfchw"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprfchw", "-mprefer-vector-width=512"],
}
# AVX-512's kernels for a CPU with AVX2 alone, slow but right: tests reach them where the CPU at hand lacks the real thing.
EMULATED = os.environ.get("CONVOPT_EMULATE") == "avx512"
if EMULATED:
    ISAS["avx512"] = [*ISAS["avx2"], "-Wno-psabi", "-O1"]  # optimising vectors in halves takes gcc many minutes


def library(name: str, sources: list[str], flags: list[str]) -> tuple[str, dict]:
    return name, {"sources": sources, "cflags": COMMON + flags, "include_dirs": [KERNELS], "obj_deps": {"": HEADERS}}


libraries = [library("convopt_dispatch", [f"{KERNELS}/dispatch.c"], ["-DEMULATE_AVX512"] if EMULATED else [])]
libraries += [library(f"convopt_{isa}", sorted(glob(f"{KERNELS}/isa/{isa}_*.c")), flags) for isa, flags in ISAS.items()]

extensions = [
    Extension(
        os.path.splitext(source)[0].replace("/", "."),
        [source],
        include_dirs=[KERNELS, numpy.get_include()],
        # Only the registry links the kernels: everyone else reaches them through the table it hands out.
        libraries=[name for name, _ in libraries] if source.endswith("kernels/registry.pyx") else [],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("CYTHON_WITHOUT_ASSERTIONS", "1")],
        extra_compile_args=["-O2", "-fopenmp", "-fvisibility=hidden", "-Wno-unused-function"],
        extra_link_args=["-fopenmp"],
        depends=[*HEADERS, f"{KERNELS}/dispatch.c"],
    )
    for source in sorted(glob("convopt/**/*.pyx", recursive=True))
]

setup(
    libraries=libraries,
    ext_modules=cythonize(extensions, language_level=3, compiler_directives={"cdivision": True}),
)
