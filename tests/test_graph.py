"""Graphs: what nodes are, what they refuse, and the three textbook examples, drawn and traced."""

from __future__ import annotations

import io
import re
import shutil
import sys

import numpy as np
import pytest

from fastmlp import graph as g

# --- the three textbook graphs --------------------------------------------------------------------


def product_graph():
    """f = (x + y)·z at (−2, 5, −4), as in Stanford's CS231n."""
    return g.Graph.of(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)


def neuron_graph():
    """The sigmoid neuron of the same lecture: 1 / (1 + exp(−(w0·x0 + w1·x1 + w2)))."""

    def neuron(w0, x0, w1, x1, w2):
        return 1 / (1 + g.exp(-(w0 * x0 + w1 * x1 + w2)))

    return g.Graph.of(neuron, 2.0, -1.0, -3.0, -2.0, -3.0)


W1 = np.array([[0.5, -0.25], [0.75, 1.0]])
W2 = np.array([[1.0], [-2.0]])
X = np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 1.0]])
Y = np.array([[1.0], [0.0], [-1.0]])


def network_graph():
    """Two layers with squared error, on matrices."""

    def loss(x, y, W1, b1, W2, b2):
        h = g.sigmoid(x @ W1 + b1).named("h")
        return g.mean((h @ W2 + b2 - y) ** 2)

    x, y = g.constant(X, "x"), g.constant(Y, "y")
    return g.Graph.of(loss, x, y, W1, np.zeros(2), W2, np.zeros(1))


def boxes(dot):
    """Return (title, value, gradient) of each node in a DOT text."""
    rows = re.findall(r"n\d+ \[label=<(.*)>\];", dot)
    result = []
    for row in rows:
        cells = re.findall(r"<TR><TD.*?>(.*?)</TD></TR>", row)
        cells = [" ".join(re.sub(r"<[^>]*>|&[^;]*;", " ", cell).split()) for cell in cells]
        value, title, gradient = cells
        result.append((title, value, gradient))
    return result


def test_product_in_dot():
    dot = product_graph().dot()
    assert boxes(dot) == [
        ("x", "-2", "-4"),
        ("y", "5", "-4"),
        ("+", "3", "-4"),
        ("z", "-4", "3"),
        ("× f", "-12", "1"),
    ]
    assert re.findall(r"(n\d+):p:e -> (n\d+):p:w", dot) == [
        ("n0", "n2"),
        ("n1", "n2"),
        ("n2", "n4"),
        ("n3", "n4"),
    ]


def test_neuron_in_dot():
    found = {title: (value, gradient) for title, value, gradient in boxes(neuron_graph().dot(2))}
    # The lecture's numbers, to two digits.
    assert found["w0"] == ("2", "-0.2")
    assert found["x0"] == ("-1", "0.39")
    assert found["w1"] == ("-3", "-0.39")
    assert found["x1"] == ("-2", "-0.59")
    assert found["w2"] == ("-3", "0.2")
    assert found["exp"] == ("0.37", "-0.53")
    assert found["÷ neuron"] == ("0.73", "1")


def test_network_in_dot():
    graph = network_graph()
    h = 1 / (1 + np.exp(-(X @ W1)))
    delta = 2 * (h @ W2 - Y) / 3
    dz = (delta @ W2.T) * h * (1 - h)
    expected = {"W1": X.T @ dz, "b1": dz.sum(0), "W2": h.T @ delta, "b2": delta.sum(0)}
    found = {graph.name(node): graph.gradient(node) for node in graph.variables}
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-13)
    gradients = {title: gradient for title, _, gradient in boxes(graph.dot())}
    for name in expected:
        numbers = [float(x) for x in re.findall(r"-?[\d.]+(?:e-?\d+)?", gradients[name])]
        np.testing.assert_allclose(numbers, expected[name].reshape(-1), rtol=1e-3)
    values = {title: value for title, value, _ in boxes(graph.dot())}
    assert float(values["mean loss"]) == pytest.approx(((h @ W2 - Y) ** 2).mean(), rel=1e-3)


def test_mermaid():
    text = product_graph().mermaid()
    assert text.startswith("flowchart LR\n")
    assert '  n2("3<br/><b>+</b><br/><i>-4</i>")' in text
    assert text.count("-->") == 4
    assert '"' not in re.sub(r'[\[(]"[^"]*"[\])]', "", text)


def test_large_arrays_are_described():
    graph = g.Graph.of(lambda x: x.sum(), np.arange(100.0).reshape(20, 5))
    assert "20×5, 0 … 99" in graph.dot()
    assert "20×5, 0 … 99" in str(graph)


def test_names_are_escaped():
    graph = g.Graph.of(lambda x: x * 2, g.variable(1.0, 'a<b>&"c"'))
    assert "a&lt;b&gt;&amp;&quot;c&quot;" in graph.dot()
    assert '"c"' not in graph.mermaid()


def test_trace():
    out = io.StringIO()
    product_graph().trace(file=out)
    assert out.getvalue() == (
        "Forward\n"
        "  x  = -2\n"
        "  y  = 5\n"
        "  v1 = x + y  = (-2) + 5 = 3\n"
        "  z  = -4\n"
        "  f  = v1 · z = 3 · (-4) = -12\n"
        "\n"
        "Backward\n"
        "  ∂f/∂f  = 1\n"
        "  ∂f/∂z  = ∂f/∂f · v1 = 1 · 3 = 3\n"
        "  ∂f/∂v1 = ∂f/∂f · z  = 1 · (-4) = -4\n"
        "  ∂f/∂y  = ∂f/∂v1     = -4\n"
        "  ∂f/∂x  = ∂f/∂v1     = -4\n"
    )


def test_trace_of_a_shared_expression():
    text = str(g.Graph.of(lambda x: x * x + g.sin(x), 2.0))
    assert text.count("∂f/∂x via v1 = ∂f/∂v1 · x") == 2
    assert "∂f/∂x via v2 = ∂f/∂v2 · cos(x) = 1 · cos(2) = -0.4161" in text
    assert re.search(r"∂f/∂x +  ?= sum of these +.*= 3.584", text)


def test_trace_of_every_operation():
    rng = np.random.default_rng(0)
    a = g.variable(rng.uniform(0.2, 0.8, (2, 3)), "a")
    b = g.variable(rng.uniform(0.2, 0.8, (3,)), "b")
    for name, operation in g.OPERATIONS.items():
        operands = (a, b)
        settings = {
            "index": {"key": (slice(1), [0, 2])},
            "reshape": {"shape": (3, 2)},
            "transpose": {"axes": None},
            "softmax": {"axis": 1},
            "concatenate": {"axis": 0},
            "broadcast_to": {"shape": (4, 2, 3)},
            "sum_to": {"shape": (2, 1)},
            "scatter": {"key": slice(2, 4), "shape": (5, 3)},
        }.get(name, {})
        if name in ("sum", "mean", "max", "min", "logsumexp"):
            settings = {"axis": 0, "keepdims": False}
        count = operation.formula.count("{1}") + operation.formula.count("{2}") + 1
        if name == "where":
            operands = (a < b, a, b)
        elif name == "matmul":
            operands = (a, b)
        elif name == "concatenate":
            operands = (a, a)
        else:
            operands = operands[:count]
        node = g.node.apply(name, *operands, **settings)
        text = str(g.Graph(node))
        assert "{" not in text
        assert g.Graph(node).dot().count("[label=<") == len(g.Graph(node).nodes)


def test_draw_text_files(tmp_path):
    graph = product_graph()
    assert (tmp_path / "g.dot").name == "g.dot"
    graph.draw(tmp_path / "g.dot")
    assert (tmp_path / "g.dot").read_text(encoding="utf-8") == graph.dot()
    graph.draw(tmp_path / "g.mmd")
    assert (tmp_path / "g.mmd").read_text(encoding="utf-8") == graph.mermaid()
    with pytest.raises(ValueError, match="suffix"):
        graph.draw(tmp_path / "picture")


def test_draw_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    monkeypatch.setitem(sys.modules, "graphviz.backend", None)
    graph = product_graph()
    with pytest.raises(ImportError, match=r"fastmlp\[graphviz\]"):
        graph.draw()
    with pytest.raises(ImportError, match=r"fastmlp\[graphviz\]"):
        graph.draw(tmp_path / "g.svg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert graph._repr_svg_() is None
    assert "∂f/∂z" in graph._repr_html_()


def test_notebooks_without_graphviz(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(sys.modules, "graphviz", None)
    monkeypatch.setitem(sys.modules, "graphviz.backend", None)
    assert "<svg" in product_graph()._repr_svg_()
    assert "<svg" in product_graph()._repr_html_()


def test_draw_through_graphviz(tmp_path):
    graphviz = pytest.importorskip("graphviz")
    graph = network_graph()
    assert isinstance(graph.draw(), graphviz.Source)
    if shutil.which("dot") is None:
        with pytest.raises(ImportError, match="apt-get install graphviz"):
            graph.draw(tmp_path / "g.svg")
        return
    path = graph.draw(tmp_path / "g.svg")
    with open(path, encoding="utf-8") as stream:
        assert "<svg" in stream.read()
    assert "<svg" in graph._repr_svg_()


# --- nodes ----------------------------------------------------------------------------------------


def test_every_intermediate_is_kept():
    x, y = g.variable(3.0, "x"), g.variable(2.0, "y")
    s = x * y
    f = (s + s * x).backward()
    assert (s.item(), f.item()) == (6.0, 24.0)
    assert s.gradient.item() == 4.0  # 1 + x
    assert x.gradient.item() == 2 * 4 + 6  # through s, and directly
    assert y.gradient.item() == 3 * 4
    second = g.gradients(x.gradient, [x])[0]
    assert second.item() == 2 * 2  # f = x·y + x²·y


def test_local_gradients():
    x, w = g.variable([1.0, 2.0], "x"), g.variable([[1.0, 0.0, 2.0], [3.0, 1.0, 1.0]], "W")
    dx, dw = g.local_gradients(x @ w)
    np.testing.assert_array_equal(dx, w.value.T)
    np.testing.assert_array_equal(dw, np.einsum("i,jk->kij", [1.0, 2.0], np.eye(3)))
    left, right = g.local_gradients(x * 3.0)
    np.testing.assert_array_equal(left, [3.0, 3.0])
    assert right is None
    assert g.local_gradients(x[:0])[0].shape == (0, 2)
    assert g.local_gradients(x) == ()
    assert g.local_gradients(x < 1) == (None, None)


def test_contributions_add_up():
    x = g.variable(2.0, "x")
    graph = (x * x + g.exp(x)).graph()
    parts = graph.contributions(x)
    assert len(parts) == 3
    assert sum(part for _, _, part in parts) == pytest.approx(graph.gradient(x))


def test_mismatch_names_both_nodes():
    w, b = g.variable(np.ones((2, 3)), "W"), g.variable(np.ones(4), "b")
    with pytest.raises(ValueError, match=r"W of shape \(2, 3\) and b \+ 1 of shape \(4,\)"):
        w * (b + 1)
    with pytest.raises(ValueError, match=r"W of shape \(2, 3\) and b of shape \(4,\)"):
        w @ b
    with pytest.raises(ValueError, match=r"concatenate cannot take W .* and b .*axis=0"):
        g.concatenate([w, b])
    with pytest.raises(IndexError, match=r"b of shape \(4,\) with key=7"):
        b[7]
    with pytest.raises(IndexError, match=r"cannot take the variable of shape \(4,\) with key=7"):
        g.variable(np.ones(4))[7]
    with pytest.raises(ValueError, match=r"reshape cannot take W of shape \(2, 3\)"):
        w.reshape(4)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: bool(x > 0),
        lambda x: float(x),
        lambda x: np.asarray(x),
        lambda x: np.arctan(x),
        lambda x: np.cumsum(x),
        lambda x: np.add.reduce(x),
        lambda x: len(x),
        lambda x: x + "a",
        lambda x: x + 1j,
    ],
)
def test_misuse_is_refused(misuse):
    with pytest.raises(TypeError):
        misuse(g.variable(1.0, "x"))


def test_numpy_functions_on_nodes():
    x = g.variable([0.5, 0.25], "x")
    for of_numpy, own in [
        (np.exp(x), g.exp(x)),
        (np.ones(2) * x, x * 1.0),
        (np.float64(2.0) - x, 2.0 - x),
        (np.sum(x), x.sum()),
        (np.where(np.greater(x, 0.3), x, 0.0), g.where(x > 0.3, x, 0.0)),
        (np.array([1.0, 0.3]) >= x, x <= [1.0, 0.3]),
        (np.concatenate([x, x]), g.concatenate([x, x])),
        (np.eye(2) @ x, x),
        (np.square(x), x**2),
        (np.amax(x) - np.amin(x), x.max() - x.min()),
        (x.reshape(np.int64(1), np.int64(2)).reshape(np.int64(2)), x),
        (x.reshape(2, 1).transpose(np.int64(1), np.int64(0)).T, x.reshape([2, 1])),
    ]:
        np.testing.assert_array_equal(of_numpy.value, own.value)
    for call, name in (
        (lambda: np.dot(x, x), "np.dot"),
        (lambda: np.linalg.norm(x), "linalg.norm"),
    ):
        with pytest.raises(TypeError, match=rf"{name} is not an operation .* a @ b"):
            call()


def test_conditions_combine():
    x = g.variable([-1.0, 0.5, 2.0], "x")
    inside = (x > 0) & ~(x >= 2) | (x == 2.0)
    np.testing.assert_array_equal(inside.value, [False, True, True])
    np.testing.assert_array_equal((inside * x).value, [0.0, 0.5, 2.0])
    np.testing.assert_array_equal(g.grad(lambda x: (inside * x).sum())(x.value), [0.0, 1.0, 1.0])
    assert not inside.differentiable


def test_values_cannot_be_written():
    x = g.variable(np.ones(3), "x")
    for node in (x, x + 1, x[:2]):
        with pytest.raises(ValueError, match="read-only"):
            node.value[0] = 5


def test_values_are_those_computed_with():
    w = np.array([1.0, 2.0])
    f = (g.variable(w, "w") * g.constant(w)).sum()
    with pytest.raises(TypeError, match=r"np\.subtract .* \.value"):
        w -= f
    w -= 1.0  # as in a step of descent, between the function and its gradient
    assert f.backward().item() == 5.0
    (product,) = f.parents
    np.testing.assert_array_equal([node.gradient.value for node in product.parents[:1]], [[1, 2]])


def test_iteration_and_length():
    a, b = g.variable([1.0, 2.0], "x")
    assert (a.item(), b.item()) == (1.0, 2.0)


def test_repr():
    assert repr(g.variable([1.0, 2.0], "x")) == "<x: [1, 2], variable>"
    assert repr(product_graph()) == "<Graph of f: 5 nodes>"


# --- functions of functions -----------------------------------------------------------------------


def test_several_arguments_and_keywords():
    def f(a, b, *, scale):
        return scale * (a * b).sum()

    value, (da, db) = g.value_and_grad(f, argnums=(0, -1))([1.0, 2.0], [3.0, 4.0], scale=2.0)
    assert value == 22.0
    np.testing.assert_array_equal(da, [6.0, 8.0])
    np.testing.assert_array_equal(db, [2.0, 4.0])


def test_jacobian():
    def f(x):
        return g.concatenate([x[:1] * x[1:2], g.exp(x)])

    x = np.array([0.5, -1.0])
    expected = [[-1.0, 0.5], [np.exp(0.5), 0.0], [0.0, np.exp(-1.0)]]
    np.testing.assert_allclose(g.jacobian(f)(x), expected, rtol=1e-15)
    assert g.jacobian(lambda x: g.constant(np.zeros((0, 2))))(x).shape == (0, 2, 2)


def test_nested_derivatives_do_not_mix():
    # d/dx [x · d/dy (x + y) at y = x] = d/dx [x · 1]
    assert g.grad(lambda x: x * g.grad(lambda y: x + y)(x))(3.0) == 1.0
    # d/dx [d/dy (x² · y) at y = 2] = d/dx [x²]: what comes from outside is no number there.
    assert g.grad(lambda x: g.grad(lambda y: x**2 * y)(2.0))(3.0) == 6.0
    assert g.grad(lambda x: g.grad(lambda y: x**2 * y**2)(2.0))(3.0) == 24.0
    assert g.grad(lambda x: g.hvp(lambda y: x * y**3)(2.0, 1.0))(3.0) == 12.0
    (slope,) = g.grad(lambda x: g.value_and_grad(lambda y: x**2 * y, (0,))(2.0)[1][0], (0,))(3.0)
    assert slope == 6.0


def test_hessian_products_depend_on_the_vector():
    # f = Σx⁴ has H·v = 12x²v, and ‖H·v‖² the gradient 2·144x⁴v.
    product = g.hvp(lambda x: (x**4).sum())
    gradient = g.grad(lambda v: (product([1.0, 2.0], v) ** 2).sum())([1.0, -1.0])
    np.testing.assert_array_equal(gradient, [288.0, -288.0 * 16])


def test_results_can_be_written():
    gradient = g.grad(g.sum)([1.0, 2.0])
    gradient *= 0.5
    np.testing.assert_array_equal(gradient, [0.5, 0.5])


def test_functions_that_ignore_their_argument():
    np.testing.assert_array_equal(g.grad(lambda x: 3.0)([1.0, 2.0]), [0.0, 0.0])


def test_transform_errors():
    with pytest.raises(ValueError, match=r"one number as result.*shape \(2,\)"):
        g.grad(lambda x: x * 2)([1.0, 2.0])
    with pytest.raises(ValueError, match="argnums"):
        g.grad(lambda x: x, argnums=1)(1.0)
    with pytest.raises(ValueError, match="argnums"):
        g.grad(lambda x: x, argnums="x")(1.0)
    with pytest.raises(ValueError, match=r"argnums must name .* of the 0 given"):
        g.hvp(lambda x: x * x)(1.0)  # v is missing
    with pytest.raises(ValueError, match=r"v must have the shape \(2,\) of x"):
        g.hvp(lambda x: (x * x).sum())([1.0, 2.0], [1.0])
    with pytest.raises(TypeError, match="argnums"):
        g.hvp(lambda x: x, argnums=(0,))
    with pytest.raises(ValueError, match="seed"):
        g.gradients(g.variable([1.0, 2.0], "x") * 2, [], seed=1.0)
