"""Equations as the docstrings have them, in Unicode, for readers of the source: here as TeX.

>>> print(tex("x̂ = (x - μ) / √(σ² + ε)"))
\\hat{x} = (x - \\mu ) / \\sqrt{\\sigma ^{2} + \\varepsilon }
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["block", "tex"]

SYMBOLS = {
    "·": r"\cdot ", "−": "-", "×": r"\times ", "≤": r"\le ", "≥": r"\ge ", "≈": r"\approx ",
    "∈": r"\in ", "∩": r"\cap ", "←": r"\leftarrow ", "→": r"\to ", "⌊": r"\lfloor ",
    "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "…": r"\dots ", "Σ": r"\sum ",
    "ℓ": r"\ell ", "%": r"\%", "&": r"\&", "#": r"\#", "ε": r"\varepsilon ", "∞": r"\infty ",
    "∂": r"\partial ", "≠": r"\ne ", "±": r"\pm ",
}  # fmt: skip
FUNCTIONS = {"log", "exp", "max", "min", "tanh", "det", "lim", "sup", "inf"}
SMALL = {"ᵀ": r"\top ", "⁻": "-", "⁺": "+", "ˣ": "x", "ᶻ": "z", "ᵗ": "t", "ⁿ": "n", "ᵏ": "k"}
OPERATOR = re.compile(r"[=≤<>≥≈·Σ←√+/]|\w\(")
SCRIPT = re.compile(r"-?(\{[^}]*\}|\|\w\||[A-Za-zα-ω]+|\d+)")
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<script>[⁰¹²³⁴-⁹ᵀ⁻⁺ˣᶻᵗⁿᵏ]+|[₀-₉]+)|(?P<hat>\w\u0302)"
    r"|(?P<word>[A-Za-z]+(?:-[a-z]{2,})*(?:'s?|\d(?=\())?)|(?P<number>[\d.,]*\d)|(?P<other>.)"
)


def block(lines: list[str]) -> list[str]:
    """A directive with an array: what is set apart by two spaces stands in a column of its own.

    A table without equations is left as it is.
    """
    if not re.search("[=≈≤Σ←·/]", "".join(lines)):
        return ["::", "", *lines]
    rows = [[tex(part) for part in re.split(r"\s{2,}", line.strip())] for line in lines if line]
    columns = max(map(len, rows))
    body = [" & ".join(row) + r" \\" for row in rows]
    array = [rf"\begin{{array}}{{{'l' * columns}}}", *body, r"\end{array}"]
    return [".. math::", "", *(f"   {row}" for row in array), ""]


def tex(text: str) -> str:
    """One equation, or what is said about one."""
    text = unicodedata.normalize("NFD", text)
    name = re.fullmatch(r"[A-Z][a-z]?(, [A-Z][a-z]?)*", text)
    if not (OPERATOR.search(text) or name or re.search(r"[^\x00-\x7f]", text)):
        return prose(text)
    converted, found = _converted(text), 1
    while found:  # words that follow each other are one phrase
        converted, found = re.subn(r"(\\text\{[^{}]*?)\s*\} \\text\{\s*", r"\1 ", converted)
    return " ".join(converted.split())


def prose(text: str) -> str:
    """Words between equations."""
    return r"\text{" + re.sub(r"([&%#_$])", r"\\\1", text) + "}"


def _converted(text: str) -> str:
    out, place = [], 0
    while place < len(text):
        found = TOKEN.match(text, place)
        assert found is not None
        kind, token, place = str(found.lastgroup), found[0], found.end()
        if kind == "script":
            small = [SMALL.get(c) or str(unicodedata.digit(c)) for c in token]
            out.append(("_" if "₀" <= token[0] <= "₉" else "^") + "{" + "".join(small) + "}")
        elif kind == "hat":
            out.append(rf"\hat{{{letter(token[0])}}}")
        elif kind == "word":
            out.append(_word(token, text[:found.start()], text[place:]))
        elif token == "√" and text[place] == "(":
            end = _closing(text, place)
            out.append(r"\sqrt{" + _converted(text[place + 1 : end]) + "}")
            place = end + 1
        elif token in "^_" and (script := SCRIPT.match(text, place)):
            inner = _converted(script[0].replace("{", "").replace("}", ""))
            out.append(token + "{" + inner + "}")
            place = script.end()
        else:
            out.append(letter(token))
    return "".join(out)


def letter(token: str) -> str:
    """A character that is no Latin letter of a word."""
    if token in SYMBOLS:
        return SYMBOLS[token]
    if "GREEK" in unicodedata.name(token[0], ""):
        word = unicodedata.name(token).split()
        word_ = word[-1].lower()
        return f"\\{word_.capitalize() if word[1] == 'CAPITAL' else word_} "
    return token


def _word(token: str, before: str, after: str) -> str:
    """A variable, a function or a word: what it is shows in what stands beside it."""
    plain = token.rstrip("'")
    if len(plain) == 1 and not (token == "a" and re.match(r" [a-z]{3}", after)):
        return token
    if plain in FUNCTIONS:
        return rf"\{plain} "
    if re.fullmatch(r"[HWKCO][ohwg]", plain):  # Ho, Kw, Cg
        return f"{plain[0]}_{plain[1]}"
    if len(plain) == 2 and (plain[0] == "d" or plain[1].isupper()):  # dx; i times S
        return token
    if after[:1] in ("(", "_", "["):
        return rf"\operatorname{{{plain}}}" + token[len(plain):]
    left = " " if re.search(r"[\w\]),:]\s$", before) else ""
    right = " " if re.match(r"\s[\w(\[Σ|]", after) else ""
    return rf"\text{{{left}{token}{right}}}"


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at ``start`` closes."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return len(text)
