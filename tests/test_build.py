"""The build: which flags go where, what is said when something is missing, what an sdist holds."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

import fastmlp

ROOT = Path(__file__).resolve().parents[1]
ISA = ROOT / "csrc" / "isa"
# Flags that this Python was built with, and so builds every extension with.
OF_PYTHON = {
    word for name in ("CC", "CFLAGS") for word in (sysconfig.get_config_var(name) or "").split()
}

pytestmark = [
    pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="not in a source tree"),
    pytest.mark.skipif(sys.platform == "win32", reason="the stand-in compiler is a shell script"),
]
pytest.importorskip("setuptools")

# Probes are compiled for real, except where they ask for what FORBIDDEN names; of everything else
# only the command line is kept, and an empty object made, so that the tests take no minute.
COMPILER = """#!/bin/sh
source=; object=; previous=
for argument; do
    case $argument in "$FORBIDDEN") echo "unknown option $argument" >&2; exit 1;; esac
    case $argument in *.c) source=$argument;; esac
    if [ "$previous" = -o ]; then object=$argument; fi
    previous=$argument
done
case $source in
    csrc/*) echo "$@" >> "$LOG"; : > "$object";;
    *) exec cc "$@";;
esac
"""


@pytest.fixture
def build(tmp_path):
    """Run ``setup.py build_clib`` with the stand-in compiler: the process and what it compiled."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    log = tmp_path / "log"
    folder = str(tmp_path / "build")

    def run(forbidden="", **environment):
        log.write_text("")
        command = [sys.executable, "setup.py", "build_clib", "-b", folder, "-t", folder]
        # The flags of a user's environment are not under test here.
        inherited = {k: v for k, v in os.environ.items() if not k.endswith("FLAGS")}
        settings = {"CC": str(compiler), "LOG": str(log), "FORBIDDEN": forbidden, **environment}
        process = subprocess.run(
            command, cwd=ROOT, env=inherited | settings, capture_output=True, text=True, check=False
        )
        lines = [line.split() for line in log.read_text().splitlines()]
        compiled = {next(word for word in line if word.endswith(".c")): line for line in lines}
        return process, compiled

    return run


def targets():
    text = (ISA / "targets.def").read_text()
    return re.findall(r'^FM_TARGET\((\w+), "(\w*)", "([^"]*)"\)$', text, re.MULTILINE)


def test_every_target_has_its_files():
    assert {name for name, _, _ in targets()} >= {"portable", "neon", "avx2", "avx512"}
    for name, _, _ in targets():
        for file in (f"{name}.h", f"{name}_f32.c", f"{name}_f64.c"):
            assert (ISA / file).is_file()


def test_flags_of_an_instruction_set_stay_in_its_files(build):
    process, compiled = build()
    assert process.returncode == 0, process.stderr
    flags_of = {name: flags.split() for name, _, flags in targets()}
    seen = set()
    for source, command in compiled.items():
        name = Path(source).stem.rpartition("_")[0] if "/isa/" in source else ""
        seen.add(name)
        special = [word for word in command if word.startswith("-m") and word not in OF_PYTHON]
        assert special == [flag for flag in flags_of.get(name, []) if flag.startswith("-m")], source
        assert "-ffp-contract=off" in command
        assert "-O3" in command
        assert not {"-ffast-math", "-Ofast", "-funsafe-math-optimizations"} & set(command)
    assert "portable" in seen
    assert "-fopenmp" in compiled["csrc/run.c"]
    macros = {word for word in compiled["csrc/isa/dispatch.c"] if word.startswith("-DFM_HAVE_")}
    assert macros == {f"-DFM_HAVE_{name}={int(name in seen)}" for name in flags_of}


def test_targets_of_other_architectures_are_skipped(build):
    _, compiled = build()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
    expected = {
        f"csrc/isa/{name}_{precision}.c"
        for name, architecture, _ in targets()
        if architecture in ("", machine)
        for precision in ("f32", "f64")
    }
    assert {source for source in compiled if source.endswith(("_f32.c", "_f64.c"))} == expected


def test_only_what_changed_is_compiled_again(build):
    _, everything = build()
    assert everything
    assert build()[1] == {}
    # Other flags recompile the files that get them, and no others.
    process, compiled = build(FASTMLP_NO_OPENMP="1")
    assert process.returncode == 0, process.stderr
    assert "csrc/run.c" in compiled
    assert not any("-fopenmp" in command for command in compiled.values())
    assert not any(source.endswith("_f32.c") for source in compiled)


def test_without_openmp_one_sentence_says_what_to_install(build):
    process, compiled = build(forbidden="-fopenmp")
    assert process.returncode == 1
    assert compiled == {}
    message = process.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"error: OpenMP was not found: install .+, or set FASTMLP_NO_OPENMP=1 to build .+", message
    )
    assert "Traceback" not in process.stderr
    process, compiled = build(forbidden="-fopenmp", FASTMLP_NO_OPENMP="1")
    assert process.returncode == 0, process.stderr
    assert "csrc/run.c" in compiled


def test_without_a_compiler_one_sentence_says_what_to_install(build):
    process, _ = build(CC="no-such-compiler")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("error: no working C compiler was found")
    assert "Traceback" not in process.stderr


def test_sdist_holds_the_sources_and_the_version_is_said_once(tmp_path):
    command = ["egg_info", "-e", str(tmp_path), "sdist", "-d", str(tmp_path)]
    subprocess.run(
        [sys.executable, "setup.py", "-q", *command], cwd=ROOT, capture_output=True, check=True
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    prefix = f"fastmlp-{fastmlp.__version__}"
    assert archive.name == f"{prefix}.tar.gz"
    with tarfile.open(archive) as tar:
        held = {Path(name).relative_to(prefix).as_posix() for name in tar.getnames()}
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".c", ".h", ".inc")]
    package = ROOT / "src" / "fastmlp"
    sources += [*(ROOT / "csrc").rglob("*.def"), *package.rglob("*.py")]
    sources += [path for ending in ("pyx", "pxd", "pxi") for path in package.glob(f"*.{ending}")]
    sources += [package / "data" / "digits.npz"]
    sources += [ROOT / name for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py")]
    for folder in ("tests", "examples", "docs", "benchmarks"):
        sources += [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".rst", ".c", ".npz", ".safetensors", ".json")
            and not {"_build", "gallery", "__pycache__"} & set(path.parts)
            and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        ]
    assert {path.relative_to(ROOT).as_posix() for path in sources} <= held
    assert not [name for name in held if name.endswith((".so", ".pyc", "_native.c"))]
