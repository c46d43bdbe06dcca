"""The stub of the extension says what the extension has."""

import ast
from pathlib import Path

import fastmlp
from fastmlp import _native

STUB = Path(fastmlp.__file__).with_name("_native.pyi")


def test_the_stub_names_what_the_extension_has():
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    stubbed = {node.name: node for node in tree.body if isinstance(node, kinds)}
    public = {
        name
        for name, item in vars(_native).items()
        if not name.startswith("_") and getattr(item, "__module__", None) == "fastmlp._native"
    }
    public |= {n for n in dir(_native) if type(getattr(_native, n)).__name__ == "cython_function"}
    assert public <= set(stubbed)
    assert all(hasattr(_native, name) for name in stubbed)
    for name, node in stubbed.items():
        if isinstance(node, ast.ClassDef):
            methods = {m.name for m in node.body if isinstance(m, ast.FunctionDef)}
            fields = {f.target.id for f in node.body if isinstance(f, ast.AnnAssign)}
            for member in (methods | fields) - {"__buffer__"}:
                assert hasattr(getattr(_native, name), member), f"{name}.{member}"
