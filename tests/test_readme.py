"""The README's examples run as they stand, and its set-up is complete."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
pytestmark = pytest.mark.skipif(not README.is_file(), reason="not in a source tree")


def blocks(language):
    if not README.is_file():
        return []
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_examples_run(code, tmp_path, monkeypatch, capsys):
    if "sklearn" in code:
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_first_two_commands():
    start, test = blocks("sh")[:2]
    for block in (start, test):
        assert block.startswith("python3 -m venv .venv\n")
    assert start.endswith("fastmlp train digits\n")
    assert test.endswith("-m pytest\n")
