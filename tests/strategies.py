"""Hypothesis strategies for the shapes that break convolutions: odd, oblong, with remainders."""

from __future__ import annotations

from hypothesis import strategies as st

sizes = st.tuples(st.integers(3, 8), st.integers(3, 8))
batches = st.integers(1, 3)


@st.composite
def divisors(draw, channels: int) -> int:
    return draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))


@st.composite
def convolutions(draw, depthwise: bool = False) -> tuple[tuple[int, ...], dict]:
    """An input shape, and the arguments of a Conv2d that fits it."""
    n, (h, w) = draw(batches), draw(sizes)
    groups = draw(st.integers(2, 6)) if depthwise else draw(st.integers(1, 4))
    cg, og = (1, 1) if depthwise else (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    arguments = {
        "in_channels": groups * cg,
        "out_channels": groups * og,
        "kernel_size": kernel,
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        "groups": groups,
        "bias": draw(st.booleans()),
        # what a dilated kernel covers must fit into the smallest image
        "dilation": draw(st.sampled_from([1, 1, 2])) if max(kernel) < 3 else 1,
    }
    return (n, h, w, groups * cg), arguments


@st.composite
def pools(draw) -> tuple[tuple[int, ...], dict]:
    """An input shape, and the arguments of a pool that fits it."""
    n, (h, w) = draw(batches), draw(sizes)
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return (n, h, w, draw(st.integers(1, 4))), {
        "kernel_size": kernel,
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": tuple(draw(st.integers(0, k // 2)) for k in kernel),
    }
