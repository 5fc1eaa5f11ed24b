"""The equations of the docstrings, which are Unicode, become TeX for the API's pages."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("tex", ROOT / "docs" / "site" / "tex.py")
tex = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tex)


@pytest.mark.parametrize(
    ("written", "set_as"),
    [
        ("σ² = Σ x² / M - μ²", r"\sigma ^{2} = \sum x^{2} / M - \mu ^{2}"),
        ("dγ = Σ dz x̂", r"d\gamma = \sum dz \hat{x}"),
        ("p_k = exp(z_k) / Σ_j exp(z_j)", r"p_{k} = \exp (z_{k}) / \sum _{j} \exp (z_{j})"),
        ("U_r V_rᵀ ≈ W", r"U_{r} V_{r}^{\top } \approx W"),
        ("log(1 + e^-|z|) · s^-β", r"\log (1 + e^{-|z|}) \cdot s^{-\beta }"),
        ("√((a + b) · c) / 2", r"\sqrt{(a + b) \cdot c} / 2"),
        ("d = dy where x > 0", r"d = dy \text{ where } x > 0"),
        ("K = Kh·Kw, or the pixels of a map", r"K = K_h\cdot K_w, \text{ or the pixels of a map}"),
        ("dz, dw = conv'(dy)", r"dz, dw = \operatorname{conv}'(dy)"),
        ("a constant, 100 % outside", r"\text{a constant, 100 \% outside}"),
    ],
)
def test_an_equation(written, set_as):
    assert tex.tex(written) == set_as


def test_columns_are_kept():
    assert tex.block(["    y = x    where x > 0", "", "    z = 2 y"]) == [
        ".. math::",
        "",
        r"   \begin{array}{ll}",
        r"   y = x & \text{where } x > 0 \\",
        r"   z = 2 y \\",
        r"   \end{array}",
        "",
    ]


def test_a_table_of_numbers_stays_one():
    assert tex.block(["    VGG    98   138.1 M"]) == ["::", "", "    VGG    98   138.1 M"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tinyshuffle" / "ops").glob("*.py")), ids=lambda path: path.stem
)
def test_of_the_operations_every_sign_is_known(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for line in re.findall("^    .*", text, re.MULTILINE):
        set_as = tex.tex(line.strip())
        assert set_as.isascii(), set_as
        assert set_as.count("{") == set_as.count("}")
