"""The comparison with ``ops`` fails when a kernel is wrong; and kernels run without numba."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from tinyshuffle import kernels, ops
from tinyshuffle.kernels import record
from tinyshuffle.plan import fused

FAMILIES = "depthwise", "conv", "batch_norm", "norm_conv", "meeting", "rest"

# kernel, number of the argument that it writes, and a function that must show the fault
BROKEN = [
    ("depthwise.forward_1", 0, "depthwise"),
    ("depthwise.forward_2", 0, "depthwise"),
    ("depthwise.window_forward", 0, "depthwise"),
    ("depthwise.backward_1", 0, "depthwise"),
    ("depthwise.backward_1", 1, "depthwise"),
    ("depthwise.backward_2", 0, "depthwise"),
    ("depthwise.backward_2", 1, "depthwise"),
    ("depthwise.window_backward", 0, "depthwise"),
    ("depthwise.window_backward", 1, "depthwise"),
    ("conv.im2col", 0, "conv"),
    ("conv.col2im", 0, "conv"),
    ("conv.stem_forward", 0, "conv"),
    ("conv.stem_weights", 0, "conv"),
    ("conv.stem_images", 0, "conv"),
    ("sums._sum", 0, "conv"),
    ("pool._max", 0, "rest"),
    ("pool._max", 1, "rest"),
    ("pool._max_narrow", 0, "rest"),
    ("pool._max_narrow", 1, "rest"),
    ("pool._max_backward", 0, "rest"),
    ("pool._avg_backward", 0, "rest"),
    ("pool._global", 0, "rest"),
    ("channel_scale._scale", 0, "rest"),
    ("channel_scale._scale_backward", 0, "rest"),
    ("channel_scale._scale_backward", 1, "rest"),
    ("roi_align._read", 0, "rest"),
    ("roi_align._write", 0, "rest"),
]


# kernel that works on a record, the field of what it writes, how many numbers that are, and family
RECORDS = [
    ("batch_norm._sums", "sums", lambda r: -3 * r.c, "batch_norm"),
    ("batch_norm._normalise", "y", lambda r: r.m * r.c, "batch_norm"),
    ("batch_norm._backward_sums", "sums", lambda r: -2 * r.c, "batch_norm"),
    ("batch_norm._backward", "dx", lambda r: r.m * r.c, "batch_norm"),
    ("batch_norm._eval_backward", "dx", lambda r: r.m * r.c, "batch_norm"),
    ("norm_conv.pointwise", "y", lambda r: r.m * r.o, "norm_conv"),
    ("norm_conv.pointwise", "sums", lambda r: -3 * r.o, "norm_conv"),
    ("norm_conv.pointwise_backward", "dx", lambda r: r.m * r.c, "norm_conv"),
    ("norm_conv.pointwise_backward", "dw", lambda r: r.c * r.o // r.groups, "norm_conv"),
    ("norm_conv.pointwise_backward", "sums", lambda r: -2 * r.c, "norm_conv"),
    ("norm_conv.depthwise", "y", lambda r: r.n * r.c, "norm_conv"),
    ("norm_conv.depthwise", "sums", lambda r: -3 * r.c, "norm_conv"),
    ("norm_conv.depthwise_backward", "dx", lambda r: r.n * r.h * r.wd * r.c, "norm_conv"),
    ("norm_conv.depthwise_backward", "dw", lambda r: 9 * r.c, "norm_conv"),
    ("norm_conv.depthwise_backward", "sums", lambda r: -2 * r.c, "norm_conv"),
    ("norm_conv.depthwise_any", "y", lambda r: r.n * r.c, "norm_conv"),
    ("norm_conv.depthwise_any", "sums", lambda r: -3 * r.c, "norm_conv"),
    ("norm_conv.depthwise_any_backward", "dx", lambda r: r.n * r.h * r.wd * r.c, "norm_conv"),
    ("norm_conv.depthwise_any_backward", "dw", lambda r: 9 * r.c, "norm_conv"),
    ("norm_conv.depthwise_any_backward", "sums", lambda r: -2 * r.c, "norm_conv"),
    ("norm_conv.conv", "y", lambda r: r.n * r.o, "norm_conv"),
    ("norm_conv.conv", "sums", lambda r: -3 * r.o, "norm_conv"),
    ("norm_conv.conv_backward", "dx", lambda r: r.n * r.h * r.wd * r.c, "norm_conv"),
    ("norm_conv.conv_backward", "dw", lambda r: 9 * r.o, "norm_conv"),
    ("norm_conv.conv_backward", "sums", lambda r: -2 * r.c, "norm_conv"),
    ("norm_conv.winograd", "y", lambda r: r.n * r.o, "norm_conv"),
    ("norm_conv.winograd", "sums", lambda r: -3 * r.o, "norm_conv"),
    ("norm_conv.winograd_backward", "dx", lambda r: r.n * r.h * r.wd * r.c, "norm_conv"),
    ("norm_conv.winograd_backward", "dw", lambda r: 9 * r.o, "norm_conv"),
    ("norm_conv.winograd_backward", "sums", lambda r: -2 * r.c, "norm_conv"),
    ("norm_conv.grouped", "y", lambda r: r.n * r.o, "norm_conv"),
    ("norm_conv.grouped", "sums", lambda r: -3 * r.o, "norm_conv"),
    ("norm_conv.grouped_backward", "dx", lambda r: r.n * r.h * r.wd * r.c, "norm_conv"),
    ("norm_conv.grouped_backward", "dw", lambda r: 9 * r.o, "norm_conv"),
    ("norm_conv.grouped_backward", "sums", lambda r: -2 * r.c, "norm_conv"),
    ("norm_conv.stem", "y", lambda r: r.n * r.o, "norm_conv"),
    ("norm_conv.stem", "sums", lambda r: -3 * r.o, "norm_conv"),
    ("norm_conv.stem_backward", "dx", lambda r: r.n * r.h * r.wd * 3, "norm_conv"),
    ("norm_conv.stem_backward", "dw", lambda r: 27 * r.o, "norm_conv"),
    ("pointwise._add_bias", "y", lambda r: r.m * r.o, "conv"),
    ("channel_shuffle._shuffle", "y", lambda r: r.m, "rest"),
    ("activations._clip", "y", lambda r: r.m, "rest"),
    ("activations._gate", "dx", lambda r: r.m, "rest"),
    ("meeting._forward", "y", lambda r: r.m * r.c * (1 if r.adds else 2), "meeting"),
    ("meeting._backward", "dx", lambda r: r.m * r.c * (1 if r.adds else 2), "meeting"),
    ("meeting._backward", "sums2", lambda r: -2 * r.c, "meeting"),
]


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def norm(c):
    return fused.Norm(images(c), images(c), images(c), images(c) ** 2, 1e-5, True)


def pairs(family):
    """What ``kernels`` and ``ops`` say, function by function, in tiny examples of a family."""
    for backend in kernels, ops:
        results = []

        def note(*values, results=results):
            for value in values:
                results.extend(value if isinstance(value, tuple) else (value,))

        if family == "depthwise":
            for c, stride in (17, 1), (17, 2), (3, 1):
                x, w, b = images(2, 5, 4, c), images(3, 3, c), images(c)
                y = backend.depthwise_conv2d(x, w, b, stride, 1)
                note(y, backend.depthwise_conv2d_backward(y, x, w, stride, 1))
        elif family == "conv":
            for c, o in (3, 17), (4, 6):
                x, w, b = images(2, 5, 4, c), images(3, 3, c, o), images(o)
                y = backend.conv2d(x, w, b, 1, 1)
                note(y, backend.conv2d_backward(y, x, w, 1, 1))
        elif family == "batch_norm":
            x, gamma, beta = images(2, 5, 4, 3), images(3), images(3)
            sums = ops.batch_norm_sums(x)
            note(backend.batch_norm_sums(x))
            statistics = (gamma, beta, *ops.batch_norm_statistics(sums), 1e-5, True)
            y = backend.batch_norm(x, *statistics)
            totals = backend.batch_norm_backward_sums(x, x, *statistics)
            dx = backend.batch_norm_backward(x, x, *statistics[:4], totals, sums[0], 1e-5, True)
            note(y, totals, dx, backend.batch_norm_eval_backward(x, x, *statistics))
        elif family == "norm_conv":
            kinds = [
                (images(3, 3, 18), 1, 1), (images(3, 3, 18), 2, 1), (images(5, 5, 18), 2, 2),
                (images(1, 1, 9, 6), 1, 0), (images(3, 3, 9, 6), 2, 1), (images(3, 3, 3, 17), 2, 1),
                (images(3, 3, 2, 18), 1, 1), (images(3, 3, 18, 17), 1, 1),
            ]  # fmt: skip
            for w, stride, padding in kinds:
                stem = w.shape[:3] == (3, 3, 3)
                c, groups = (3, 1) if stem else (18, 18 // w.shape[2])
                x, before, behind = images(2, 5, 4, c), None if stem else norm(c), norm(w.shape[-1])
                geometry = stride, padding, 1, groups
                y, sums = fused.norm_conv(x, before, w, *geometry)
                joined = fused if backend is ops else kernels
                note(joined.norm_conv(x, before, w, *geometry))
                note(joined.conv_norm(x, behind, w, *geometry))
                gradient = fused.Gradient(behind, sums[1:], sums[0])
                back = joined.norm_conv_backward(y, y, gradient, x, before, w, *geometry)
                note(tuple(a for a in back if a is not None))
        elif family == "meeting":
            x, y = images(2, 5, 4, 12), images(3, 2, 5, 4, 12)[0]
            both, joined = images(2, 5, 4, 24), fused if backend is ops else kernels
            note(joined.concat_shuffle(x, y, None, norm(12)))
            note(joined.concat_shuffle_backward(both, 12, x, y, norm(12), norm(12)))
            note(joined.concat_shuffle_backward(both, 12)[0])
            flat = norm(12)._replace(relu=False)
            note(joined.norm_add_relu(x, flat, y), joined.norm_add_relu_backward(y, x, x, flat))
        else:
            x, s = images(2, 5, 4, 12), images(2, 12)
            for groups in 2, 3, 4, 6:
                note(backend.channel_shuffle(x, groups))
            note(backend.max_pool2d(images(2, 5, 4, 17), 3, 2, 1))
            y, winner = backend.max_pool2d(x, 3, 2, 1)
            note(y, winner, backend.max_pool2d_backward(y, winner, x.shape, 3, 2, 1))
            note(backend.avg_pool2d(x, 3, 2, 1))
            note(backend.avg_pool2d_backward(y, x.shape, 3, 2, 1), backend.global_avg_pool(x))
            note(backend.relu(x), backend.relu_backward(x, x), backend.relu6_backward(x, x))
            note(backend.relu6(3 * x))
            note(backend.channel_scale(x, s))
            note(backend.channel_scale_backward(x, x, s))
            boxes, image = np.array([[1.0, 2, 9, 20], [0, 3, 11, 7]]), np.array([1, 0])
            for kind in "roi_align", "ps_roi_align":
                under = getattr(backend, kind)(x, boxes, image, 2, 0.25)
                back = getattr(backend, f"{kind}_backward")
                note(under, back(under, x, boxes, image, 2, 0.25))
        if backend is kernels:
            ours = results
    return zip(ours, results, strict=True)


def agree(family):
    return all(
        np.abs(np.asarray(mine) - right.astype(float)).max() <= 1e-12 * np.abs(right).max()
        for mine, right in pairs(family)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_agree_before_they_are_broken(family):
    assert agree(family)


@pytest.mark.parametrize(("name", "written", "family"), BROKEN)
def test_a_broken_kernel_is_noticed(monkeypatch, name, written, family):
    file, function = name.split(".")
    module = importlib.import_module(f"tinyshuffle.kernels.{file}")
    kernel = getattr(module, function)

    def broken(*arguments):
        kernel(*arguments)
        out = arguments[written]
        out += np.abs(out) * 1e-9 if out.dtype.kind == "f" else np.uint8(1)

    monkeypatch.setattr(module, function, broken)
    assert not agree(family)


@pytest.mark.parametrize(("name", "written", "size", "family"), RECORDS)
def test_a_broken_kernel_of_records_is_noticed(monkeypatch, name, written, size, family):
    file, function = name.split(".")
    module = importlib.import_module(f"tinyshuffle.kernels.{file}")
    kernel = getattr(module, function)

    def broken(address, zero):
        kernel(address, zero)
        r = record.record_at(address)
        if r[written]:
            numbers = size(r)  # less than none: in float64 whatever the kernel computes with
            kind = np.float64(0) if numbers < 0 else zero
            record.floats(r[written], abs(numbers), kind)[:] *= 1 + 1e-9

    monkeypatch.setattr(module, function, broken)
    assert not agree(family)


def test_kernels_are_plain_python_too():
    """A debugger and coverage see inside: ``.py_func``, and NUMBA_DISABLE_JIT for all at once."""
    x, w, b = images(2, 5, 4, 17), images(3, 3, 17), images(17)
    y = np.empty_like(x)
    arguments = x.ravel(), w.ravel(), b, np.zeros(4 * 17), *x.shape
    kernels.depthwise.forward_1.py_func(y.reshape(-1), *arguments, 0, 5, (x.ravel(),), (x.size,))
    np.testing.assert_allclose(y, ops.depthwise_conv2d(x, w, b, 1, 1), rtol=0, atol=1e-12)

    check = "import test_bite as t; print(*map(t.agree, t.FAMILIES))"
    paths = [os.path.dirname(__file__), *sys.path]
    env = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run(
        [sys.executable, "-c", check], env=env, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.split() == ["True"] * len(FAMILIES), run.stderr
