"""Build of the C engine: a static library per (instruction set, precision) under fastmlp._native.

Everything declarative stands in pyproject.toml. What is here is what setuptools cannot express:
flags per instruction set, the search for OpenMP, and compiling on all cores.
"""

import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, PlatformError
from setuptools.modified import newer_group

CSRC = Path("csrc")
ISA = CSRC / "isa"
TARGETS = ISA / "targets.def"
PRECISIONS = ("f32", "f64")
CORE_SOURCES = [*(str(path) for path in sorted(CSRC.glob("*.c"))), str(ISA / "dispatch.c")]

# No flag may change a result: contraction is off (a fused multiply-add is written where it is
# meant), and without math-errno a square root may be an instruction. LTO is off because it would
# carry the flags of an instruction set from its files into shared code. Unwind tables and symbols
# would only make the package larger.
COMMON_FLAGS = {
    "unix": "-std=c11 -O3 -g0 -Wall -Wextra -fvisibility=hidden"
    " -fno-unswitch-loops -fno-split-loops -fno-asynchronous-unwind-tables"
    " -ffp-contract=off -fno-math-errno -fno-lto",
    # clang-cl reads -Wall as -Weverything, so the usual warnings are asked for as /W4.
    "msvc": "/std:c11 /W4 /clang:-O3 /clang:-ffp-contract=off /clang:-fno-math-errno",
}

# Predefined macros that tell an architecture, named as in the rows of targets.def.
ARCHITECTURES = {
    "x86_64": "defined(__x86_64__) || defined(_M_X64)",
    "aarch64": "defined(__aarch64__) || defined(_M_ARM64)",
}

NO_COMPILER = (
    "no working C compiler was found: install gcc or clang"
    " (Debian and Ubuntu: apt-get install gcc libc6-dev; macOS: xcode-select --install)"
)
NO_CLANG_CL = "cl cannot compile GNU vector types: install LLVM for Windows, which brings clang-cl"
NO_OPENMP = (
    "OpenMP was not found: install {}, or set FASTMLP_NO_OPENMP=1 to build for a single thread"
)
OPENMP_PACKAGES = {
    "darwin": "Homebrew's libomp (brew install libomp)",
    "win32": "LLVM for Windows with its OpenMP library",
    "linux": "gcc with libgomp (Debian and Ubuntu: apt-get install gcc) or clang with libomp",
}


def read_targets():
    """List (name, architecture, flags) of every row of targets.def."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", TARGETS.read_text(encoding="utf-8"), flags=re.DOTALL)
    field = r'\s*,\s*"([^"]*)"'
    rows = re.findall(rf"FM_TARGET\(\s*(\w+){field}{field}\s*\)", text)
    return [(name, architecture, flags.split()) for name, architecture, flags in rows]


def probe(compiler, source, compile_flags=(), link_flags=None):
    """Compile, and where link_flags is given link, a small program: its object code, or None."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "probe.c")
        file.write_text(source, encoding="utf-8")
        try:
            objects = compiler.compile(
                [str(file)], output_dir=folder, extra_postargs=list(compile_flags)
            )
            if link_flags is not None:
                compiler.link_executable(
                    objects, str(Path(folder, "probe")), extra_postargs=list(link_flags)
                )
        except (BaseError, CCompilerError):
            return None
        return Path(objects[0]).read_bytes()


def find_architectures(compiler):
    """Name the architectures that the compiler makes code for (macOS may ask for two at once)."""
    marks = [
        f'#if {condition}\nconst char fm_{name}[] = "fm-architecture-{name}";\n#endif\n'
        for name, condition in ARCHITECTURES.items()
    ]
    code = probe(compiler, "int fm_probe;\n" + "".join(marks), ["-fno-lto"])
    if code is None:
        raise PlatformError(NO_COMPILER)
    return {name for name in ARCHITECTURES if f"fm-architecture-{name}".encode() in code}


def find_openmp(compiler):
    """Return the compile and link flags of OpenMP; say what to install where there is none."""
    if os.environ.get("FASTMLP_NO_OPENMP", "0") not in ("", "0"):
        return ["-Wno-unknown-pragmas"], []
    candidates = [(["-fopenmp"], ["-fopenmp"])]
    if compiler.compiler_type == "msvc":
        library = Path(compiler.cc).resolve().parent.parent / "lib"
        candidates = [(["/openmp"], [f"/LIBPATH:{library}", "libomp.lib"])]
    elif sys.platform == "darwin":
        # Apple's clang knows the pragmas but ships neither the header nor the library.
        for prefix in (os.environ.get("HOMEBREW_PREFIX"), "/opt/homebrew", "/usr/local"):
            folder = f"{prefix}/opt/libomp"
            compile_flags = ["-Xpreprocessor", "-fopenmp", f"-I{folder}/include"]
            candidates.append((compile_flags, [f"-L{folder}/lib", "-lomp"]))
    source = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
    for compile_flags, link_flags in candidates:
        if probe(compiler, source, compile_flags, link_flags) is not None:
            return compile_flags, link_flags
    raise PlatformError(NO_OPENMP.format(OPENMP_PACKAGES.get(sys.platform, "gcc with libgomp")))


def use_clang_cl(compiler):
    """Point setuptools' Microsoft compiler at clang-cl, whose command line is the same."""
    compiler.initialize()
    path = shutil.which("clang-cl") or shutil.which("clang-cl", path=r"C:\Program Files\LLVM\bin")
    if path is None:
        raise PlatformError(NO_CLANG_CL)
    compiler.cc = path


class BuildEngine(build_clib):
    """Compile fm_core and one library per instruction set of this architecture and precision."""

    def finalize_options(self):
        super().finalize_options()
        self.openmp_link_flags = []

    def build_libraries(self, libraries):
        if self.compiler.compiler_type == "msvc":
            use_clang_cl(self.compiler)
        architectures = find_architectures(self.compiler)
        self.libraries = self.plan_libraries(architectures)
        objects, jobs = {}, []
        for name, info in self.libraries:
            objects[name] = self.compiler.object_filenames(
                info["sources"], output_dir=self.build_temp
            )
            flags = self.remember_flags(name, info)
            for source, target in zip(info["sources"], objects[name], strict=True):
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                if self.force or newer_group([source, flags, *info["depends"]], target):
                    jobs.append((source, info))
        with ThreadPoolExecutor(usable_cores()) as pool:
            list(pool.map(lambda job: self.compile_source(*job), jobs))
        for name, _ in self.libraries:
            self.archive(name, objects[name])

    def plan_libraries(self, architectures):
        """List (name, build information) of every static library, fm_core first for the linker."""
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        common = COMMON_FLAGS[kind].split()
        openmp_flags, self.openmp_link_flags = find_openmp(self.compiler)
        built = {
            name: not architecture or architecture in architectures
            for name, architecture, _ in read_targets()
        }
        headers = [
            str(path) for suffix in ("h", "def") for path in sorted(CSRC.rglob(f"*.{suffix}"))
        ]
        bodies = [str(path) for path in sorted(CSRC.rglob("*.inc"))]
        core = {
            "sources": CORE_SOURCES,
            "cflags": [*common, *openmp_flags],
            "macros": [(f"FM_HAVE_{name}", str(int(have))) for name, have in built.items()],
            "depends": headers,
        }
        kernels = [
            (
                f"fm_{name}_{precision}",
                {
                    "sources": [str(ISA / f"{name}_{precision}.c")],
                    "cflags": [*common, *flags],
                    "macros": [],
                    "depends": [*headers, *bodies],
                },
            )
            for name, _, flags in read_targets()
            if built[name]
            for precision in PRECISIONS
        ]
        return [("fm_core", core), *kernels]

    def remember_flags(self, name, info):
        """Keep the flags in a file that changes when they do, so that a change recompiles."""
        path = Path(self.build_temp, f"{name}.flags")
        command = getattr(self.compiler, "compiler_so", None) or [self.compiler.cc]
        text = "\n".join([*command, *info["cflags"], *(macro for macro, _ in info["macros"])])
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return str(path)

    def compile_source(self, source, info):
        self.compiler.compile(
            [source],
            output_dir=self.build_temp,
            macros=info["macros"],
            include_dirs=[str(CSRC)],
            extra_postargs=info["cflags"],
        )

    def archive(self, name, objects):
        library = Path(self.compiler.library_filename(name, output_dir=self.build_clib))
        if self.force or newer_group(objects, str(library)):
            library.unlink(missing_ok=True)  # ar only adds: a dropped object would stay
            self.compiler.create_static_lib(objects, name, output_dir=self.build_clib)


class BuildExtension(build_ext):
    """Link fastmlp._native with the engine."""

    def run(self):
        self.run_command("build_clib")
        super().run()

    def build_extension(self, ext):
        engine = self.get_finalized_command("build_clib")
        names = engine.get_library_names()
        ext.extra_link_args += engine.openmp_link_flags
        ext.depends += [
            self.compiler.library_filename(name, output_dir=engine.build_clib) for name in names
        ]
        super().build_extension(ext)


def usable_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if sys.platform == "darwin":
    # A universal2 Python asks for both architectures at once, and ISA flags belong to one.
    os.environ.setdefault("ARCHFLAGS", f"-arch {os.uname().machine}")

windows = sys.platform == "win32"
# The glue between Python and the engine gains nothing from more than -O2, which is smaller.
glue_flags = ["-O2", "-g0", "-fno-asynchronous-unwind-tables", "-fno-lto", "-fvisibility=hidden"]
strip = ["-Wl,--strip-all"] if sys.platform == "linux" else []
native = Extension(
    "fastmlp._native",
    ["src/fastmlp/_native.pyx"],
    include_dirs=[str(CSRC)],
    extra_compile_args=[] if windows else glue_flags,
    extra_link_args=[] if windows else ["-fno-lto", "-pthread", "-lm", *strip],
)
native.cython_directives = {"language_level": 3, "auto_pickle": False}

setup(
    ext_modules=[native],
    libraries=[("fm_core", {"sources": CORE_SOURCES})],
    cmdclass={"build_clib": BuildEngine, "build_ext": BuildExtension},
)
