"""A model as one C99 file: weights and a function that predicts, nothing beyond libm.

Each forward step of the plan becomes one statement, by its row of `OPS`. The functions that the
statements call are written once each, before them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.atomic import replacing
from fastmlp.errors import check_flag, shown
from fastmlp.exports.places import places
from fastmlp.exports.quantization import Quantized, quantize
from fastmlp.plan import build

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from fastmlp.activations import Activation
    from fastmlp.model import Sequential
    from fastmlp.plan import Plan, Step, Value

# Buffers beyond this do not belong on the stack, of which a thread may have as little as 128 KiB.
_LARGEST_STACK = 1 << 16
_WIDTH = 96

# Functions of math.h that codes may use; in single precision their names end in f.
_MATH = (
    "acos asin atan ceil cos cosh erf erfc exp expm1 fabs floor fmax fmin log log1p pow sin sinh"
    " sqrt tan tanh"
)
_TOKEN = re.compile(
    r"\breal\b"
    rf"|\b(?P<function>{'|'.join(_MATH.split())})(?=\()"
    r"|(?<![\w.])(?P<number>\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)"
    r"|\b(?P<word>[A-Za-z_]\w*)"
)


@dataclass(frozen=True)
class CExport:
    """What `Sequential.export_c` wrote.

    Attributes
    ----------
    path : pathlib.Path
    function : str
        Name of the C function.
    inputs, outputs : int
    dtype : {"float", "double"}
        Of inputs, outputs and arithmetic.
    weight_bytes, buffer_bytes : int
        Size of the constant arrays, and of what a call needs beside them.
    int8 : bool
        Whether the weights are integers of 8 bits.
    max_error, mean_error : float or None
        Largest and mean difference that these make in an output on the sample.
    largest_output : float or None
        Largest output of the model on the sample, for comparison.
    sample : str or None
        What the sample was.
    """

    path: Path
    function: str
    inputs: int
    outputs: int
    dtype: str
    weight_bytes: int
    buffer_bytes: int
    int8: bool = False
    max_error: float | None = None
    mean_error: float | None = None
    largest_output: float | None = None
    sample: str | None = None

    def __str__(self) -> str:
        text = (
            f"{self.path}: {self.function}, {self.inputs} to {self.outputs} {self.dtype}s, "
            f"weights {self.weight_bytes:,} bytes, buffers {self.buffer_bytes:,} bytes"
        )
        return f"{text}\n{self.loss_of_accuracy}" if self.int8 else text

    @property
    def loss_of_accuracy(self) -> str:
        """What the weights of 8 bits cost, as a sentence; empty without them."""
        if not self.int8:
            return ""
        return (
            f"int8 weights change an output by at most {self.max_error:.2g}, by "
            f"{self.mean_error:.2g} on average, of outputs up to {self.largest_output:.2g}: "
            f"measured on {self.sample}"
        )


# --- what steps are written with ------------------------------------------------------------------


class CWriter:
    """Collects the constants and functions that the steps need, and names them.

    Parameters
    ----------
    model : Sequential
    name : str
        A C identifier, before all names of the file.
    plan : Plan
        For one row, as in prediction.
    weights : mapping of str to Quantized
        Parameters that are written as integers.
    """

    def __init__(self, model: Sequential, name: str, plan: Plan, weights: dict[str, Quantized]):
        self.name = name
        self.dtype = model.dtype
        self.single = model.dtype.itemsize == 4
        self.real = "float" if self.single else "double"
        self.constants: dict[str, str] = {}
        self.functions: dict[str, str] = {}
        self.weight_bytes = 0
        self._places, self.buffers = places(plan, {n for n, op in OPS.items() if op.in_place})
        self._integers = weights
        self._arrays = {**model.parameters, **model.states}
        self._activations: dict[Activation, str] = {}

    # Text.

    def number(self, value: float) -> str:
        """Return a literal that is exactly this number, in any locale.

        The shortest decimal that reads back as the number, which compilers round correctly.
        """
        text = str(np.float32(value) if self.single else np.float64(value))
        return f"{text}f" if self.single else text

    def adapt(self, code: str, settings: dict[str, float] | None = None) -> str:
        """Return code that is written for `real` in the precision of the model.

        Functions of math.h get their suffix, numbers with a point or exponent become exact
        literals, and names in `settings` their values.
        """

        def replaced(match: re.Match[str]) -> str:
            if match["function"]:
                return match["function"] + ("f" if self.single else "")
            if match["number"]:
                return self.number(float(match["number"]))
            if settings and match["word"] in settings:
                return self.number(settings[match["word"]])
            return self.real if match[0] == "real" else match[0]

        return _TOKEN.sub(replaced, code)

    # Names.

    def function(self, name: str, code: str, settings: dict[str, float] | None = None) -> str:
        """Write a static function once and return its name.

        Parameters
        ----------
        name : str
            Unique in the file, without the model's name.
        code : str
            Its definition, with `NAME` for its name; see `adapt`.
        settings : dict of str to float, optional
            Names in it that stand for numbers.
        """
        full = f"{self.name}_{name}"
        code = self.adapt(code.strip("\n"), settings)
        self.functions[full] = re.sub(r"\bNAME\b", full, code)
        return full

    def activation(self, fn: Activation) -> str:
        """Write the function of an element-wise activation once and return its name."""
        if fn not in self._activations:
            if not fn.c_code:
                raise ValueError(f"the activation {fn!r} has no form in C: its c_code is empty")
            settings = {name: getattr(fn, name) for name in fn.settings}
            numbers = {key: value for key, value in settings.items() if isinstance(value, float)}
            lines = [line.strip() for line in fn.c_code.rstrip("; \n").split(";")]
            body = "".join(f"    {line};\n" for line in lines)
            name = re.sub(r"\W", "_", f"{fn.name}_{len(self._activations)}", flags=re.ASCII)
            code = f"static real NAME(real z)\n{{\n{body}}}"
            self._activations[fn] = self.function(name, code, numbers)
        return self._activations[fn]

    def array(self, name: str, values: np.ndarray) -> str:
        """Write a constant array once and return its name; integers take the fewest bytes."""
        full = f"{self.name}_{name}"
        if full not in self.constants:
            integers = values.dtype.kind in "iu"
            kind = {1: "signed char", 4: "int"}[values.dtype.itemsize] if integers else self.real
            items = map(str, values.ravel().tolist()) if integers else self._numbers(values)
            size = values.size
            self.constants[full] = f"static const {kind} {full}[{size}] = {{\n{_filled(items)}}};"
            self.weight_bytes += values.nbytes
        return full

    def _numbers(self, values: np.ndarray) -> list[str]:
        return [self.number(value) for value in values.ravel()]

    def read(self, value: Value) -> str:
        """Return the C expression for the address of a value."""
        if value in self._places:
            return self._places[value]
        return self.array(_stem(value), self.values(value))

    def values(self, value: Value) -> np.ndarray:
        """Return the numbers of a parameter or state."""
        return self._arrays[value.name]

    def integers(self, value: Value) -> Quantized | None:
        """Return the 8-bit form of a weight, None if it is written as it is."""
        return self._integers.get(value.name)


def _stem(value: Value) -> str:
    """Return the name of a parameter as a part of an identifier."""
    return value.name.replace(".", "_")


def _filled(items: list[str]) -> str:
    """Return items, separated by commas, in lines of equal width."""
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) + 2 > _WIDTH:
            lines.append(line.rstrip())
            line = ""
        line += f"{item}, "
    return "".join(f"    {text}\n" for text in [*lines, line.rstrip(", ")])


# --- one row for each operation -------------------------------------------------------------------


@dataclass(frozen=True)
class COp:
    """How an operation is written.

    Attributes
    ----------
    statement : callable
        (writer, step) -> the statement that computes the step.
    in_place : bool
        Whether its result may lie where what it reads first lay.
    """

    statement: Callable[[CWriter, Step], str]
    in_place: bool = False


_DENSE = """
/* z = x W + b, W of shape (rows, cols), row after row. */
static void NAME(const real *restrict x, const real *restrict w, const real *restrict b,
                 real *restrict z, int rows, int cols)
{
    for (int j = 0; j < cols; j++)
        z[j] = b ? b[j] : 0;
    for (int i = 0; i < rows; i++, w += cols)
        for (int j = 0; j < cols; j++)
            z[j] += x[i] * w[j];
}
"""

_DENSE_INT8 = """
/* z = x W + b, column j of W being scale[j] times integers. */
static void NAME(const real *restrict x, const signed char *restrict w,
                 const real *restrict scale, const real *restrict b, real *restrict z,
                 int rows, int cols)
{
    for (int j = 0; j < cols; j++)
        z[j] = 0;
    for (int i = 0; i < rows; i++, w += cols)
        for (int j = 0; j < cols; j++)
            z[j] += x[i] * w[j];
    for (int j = 0; j < cols; j++)
        z[j] = z[j] * scale[j] + (b ? b[j] : 0);
}
"""

_SOFTMAX = """
static void NAME(const real *z, real *a, int n)
{
    real largest = z[0], sum = 0;
    for (int j = 1; j < n; j++)
        largest = z[j] > largest ? z[j] : largest;
    for (int j = 0; j < n; j++) {
        a[j] = exp(z[j] - largest);
        sum += a[j];
    }
    for (int j = 0; j < n; j++)
        a[j] /= sum;
}
"""


def _dense(c: CWriter, step: Step) -> str:
    x, weight, *bias = step.reads
    (z,) = step.writes
    integers = c.integers(weight)
    if integers is None:
        name, w = c.function("dense", _DENSE), c.read(weight)
    else:
        name, w = c.function("dense_int8", _DENSE_INT8), c.array(_stem(weight), integers.values)
        w += f", {c.array(f'{_stem(weight)}_scale', integers.scale)}"
    b = c.read(bias[0]) if bias else "0"
    return f"{name}({c.read(x)}, {w}, {b}, {c.read(z)}, {weight.rows}, {weight.cols});"


def _activation(c: CWriter, step: Step) -> str:
    f = c.activation(step.attrs["fn"])
    return elementwise(c, step, f"{f}({{0}})")


def _softmax(c: CWriter, step: Step) -> str:
    (z,), (a,) = step.reads, step.writes
    return f"{c.function('softmax', _SOFTMAX)}({c.read(z)}, {c.read(a)}, {a.cols});"


def _normalize(c: CWriter, step: Step) -> str:
    _, weight, _, _, var = step.reads
    # One factor for each column, computed here and not in every call.
    eps = max(step.attrs["eps"], np.finfo(c.dtype).tiny)
    w, v = (c.values(value).astype(np.float64) for value in (weight, var))
    factor = c.array(f"{_stem(weight)}_factor", (w / np.sqrt(v + eps)).astype(c.dtype))
    return elementwise(c, step, f"({{0}} - {{3}}) * {factor}[j] + {{2}}")


def _scale(c: CWriter, step: Step) -> str:
    return elementwise(c, step, "{0} * {1} + {2}" if len(step.reads) == 3 else "{0} * {1}")


_LAYER_NORM = """
static void NAME(const real *x, const real *w, const real *b, real *y, int n, real eps)
{
    real mean = 0, var = 0, rstd;
    for (int j = 0; j < n; j++)
        mean += x[j];
    mean /= (real)n;
    for (int j = 0; j < n; j++)
        var += (x[j] - mean) * (x[j] - mean);
    rstd = 1 / sqrt(var / (real)n + eps);
    for (int j = 0; j < n; j++)
        y[j] = (x[j] - mean) * rstd * w[j] + b[j];
}
"""

_EMBEDDING = """
/* y = x without a column, and the row of the table that this column tells. */
static void NAME(const real *x, const real *table, real *y, int cols, int column,
                 int categories, int units)
{
    real code = x[column];
    int row = code >= 0 && code < (real)categories ? (int)(code + 0.5) : 0;
    row = row < categories ? row : 0;
    for (int j = 0; j < cols; j++)
        if (j != column)
            *y++ = x[j];
    for (int j = 0; j < units; j++)
        y[j] = table[(long)row * units + j];
}
"""


def _layer_norm(c: CWriter, step: Step) -> str:
    x, weight, bias = map(c.read, step.reads)
    result = step.writes[0]
    eps = c.number(max(step.attrs["eps"], np.finfo(c.dtype).tiny))
    f = c.function("layer_norm", _LAYER_NORM)
    return f"{f}({x}, {weight}, {bias}, {c.read(result)}, {result.cols}, {eps});"


def _concat(c: CWriter, step: Step) -> str:
    result, start, loops = c.read(step.writes[0]), 0, []
    for part in step.reads:
        loops.append(
            f"for (int j = 0; j < {part.cols}; j++)\n"
            f"        {result}[{start} + j] = {c.read(part)}[j];"
        )
        start += part.cols
    return "\n    ".join(loops)


def _embedding(c: CWriter, step: Step) -> str:
    x, table = step.reads
    sizes = f"{x.cols}, {step.attrs['column']}, {table.rows}, {table.cols}"
    f = c.function("embedding", _EMBEDDING)
    return f"{f}({c.read(x)}, {c.read(table)}, {c.read(step.writes[0])}, {sizes});"


def elementwise(c: CWriter, step: Step, expression: str) -> str:
    """Return a loop over the columns of the result; `{k}` is the element of what is read as k."""
    result = step.writes[0]
    # What the expression does not name is not written to the file.
    operands = [
        f"{c.read(value)}[j]" if f"{{{k}}}" in expression else ""
        for k, value in enumerate(step.reads)
    ]
    return (
        f"for (int j = 0; j < {result.cols}; j++)\n"
        f"        {c.read(result)}[j] = {expression.format(*operands)};"
    )


# One row for each operation of fastmlp.plan.OPS that predictions have.
OPS: dict[str, COp] = {
    "dense": COp(_dense),
    "activation": COp(_activation, in_place=True),
    "softmax": COp(_softmax, in_place=True),
    "standardize": COp(lambda c, step: elementwise(c, step, "({0} - {1}) / {2}"), in_place=True),
    "add": COp(lambda c, step: elementwise(c, step, "{0} + {1}"), in_place=True),
    "scale": COp(_scale, in_place=True),
    "normalize": COp(_normalize, in_place=True),
    "layer_norm": COp(_layer_norm, in_place=True),
    "concat": COp(_concat),
    "embedding": COp(_embedding),
}


# --- the file -------------------------------------------------------------------------------------


def export(
    model: Sequential,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    int8: bool = False,
    x: ArrayLike | None = None,
) -> CExport:
    """Write a model as one C99 file; see `Sequential.export_c`."""
    path = Path(path)
    name = _identifier(path, name)
    int8 = check_flag("int8", int8)
    _check_finite(model)
    loss = quantize(model, x) if int8 else None
    plan = build(model, 1)
    c = CWriter(model, name, plan, loss.weights if loss else {})
    statements = [_statement(c, step) for step in plan.forward]
    if not statements:  # nothing is done to the input
        statements = [f"for (int j = 0; j < {plan.output.cols}; j++)\n        y[j] = x[j];"]
    summary = CExport(
        path,
        f"{name}_predict",
        plan.input.cols,
        plan.output.cols,
        c.real,
        c.weight_bytes,
        sum(c.buffers.values()) * model.dtype.itemsize,
        *((int8, *loss.errors, loss.sample) if loss else ()),
    )
    text = _file(c, plan, statements, summary)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="ascii", newline="\n")
    return summary


def _statement(c: CWriter, step: Step) -> str:
    row = OPS.get(step.op)
    if row is None:
        raise ValueError(f"the operation {step.op!r} cannot be exported to C")
    return row.statement(c, step)


def _identifier(path: Path, name: str | None) -> str:
    if name is None:
        stem = re.sub(r"\W", "_", path.stem, flags=re.ASCII).lstrip("_") or "model"
        return stem if stem[0].isalpha() else f"model_{stem}"
    if not isinstance(name, str):
        raise TypeError(f"name must be a string; got {shown(name)}")
    if not re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII):
        raise ValueError(f"name must be a C identifier that begins with a letter; got {name!r}")
    return name


def _check_finite(model: Sequential) -> None:
    for key, values in {**model.parameters, **model.states}.items():
        if not np.isfinite(values).all():
            raise ValueError(f"a model to be exported must be finite; {key} is not")


def _file(c: CWriter, plan: Plan, statements: list[str], summary: CExport) -> str:
    prototype = f"void {summary.function}(const {c.real} *x, {c.real} *y)"
    storage = "static " if summary.buffer_bytes > _LARGEST_STACK else ""
    buffers = [f"{storage}{c.real} {buffer}[{size}];" for buffer, size in c.buffers.items()]
    body = "\n".join(f"    {line}" for line in [*buffers, *statements])
    upper = c.name.upper()
    parts = [
        _comment(c, plan, summary, prototype),
        "#include <math.h>",
        f"#define {upper}_INPUTS {summary.inputs}\n#define {upper}_OUTPUTS {summary.outputs}",
        f"{prototype};",
        *c.constants.values(),
        *c.functions.values(),
        f"{prototype}\n{{\n{body}\n}}",
    ]
    return "\n\n".join(parts) + "\n"


def _comment(c: CWriter, plan: Plan, summary: CExport, prototype: str) -> str:
    from fastmlp import __version__

    if summary.buffer_bytes > _LARGEST_STACK:
        memory = f"Its buffers, {summary.buffer_bytes} bytes, are static: one call at a time."
    else:
        memory = f"A call takes {summary.buffer_bytes} bytes of stack."
    shape = " -> ".join([str(summary.inputs), *map(_described, plan.forward)])
    loss = f"\n{summary.loss_of_accuracy}.\n" if summary.int8 else ""
    return _boxed(f"""\
A neural network, exported by fastmlp {__version__}.

    {shape}

    {prototype};

reads {summary.inputs} numbers from x and writes {summary.outputs} numbers to y; the two must not
overlap. It allocates nothing and needs nothing beyond libm.
{memory} The weights are {summary.weight_bytes} bytes of constants.
{loss}
How to use it: compile this file with the program and link with libm, as in

    cc -std=c99 -O2 main.c {c.name}.c -lm

where main.c is, for example,

    #include <stdio.h>

    {prototype};

    int main(void)
    {{
        static const {c.real} x[{summary.inputs}] = {{0}};
        {c.real} y[{summary.outputs}];

        {summary.function}(x, y);
        for (int j = 0; j < {summary.outputs}; j++)
            printf("%.9g\\n", {"(double)y[j]" if c.single else "y[j]"});
        return 0;
    }}
""")


def _described(step: Step) -> str:
    name = step.attrs["fn"].name if "fn" in step.attrs else step.op
    return f"{name} {step.writes[0].cols}" if step.op == "dense" else name


def _boxed(text: str) -> str:
    """Return text as a comment, without anything that could end it or mean something in it."""
    plain = re.sub(r"[^\n\x20-\x7e]|\?|\*/|/\*", "_", text)
    lines = [f" * {line}".rstrip() for line in plain.rstrip().split("\n")]
    return "\n".join(["/*", *lines, " */"])
