"""Solutions pass, starters say what to do, and mistakes are called by their names."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle.course.exercise import Exercise, judge
from tinyshuffle.course.lessons import EXERCISES
from tinyshuffle.ops import depthwise_conv2d

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "docs" / "course" / "source").glob("*.md"))
SECONDS = 2.0

every_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.key)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sources() -> dict[str, str]:
    """The cell of code of each exercise, as it is written."""
    found = {}
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        for key, part in re.findall(r"^## (\d\d\.\d)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
            (found[key],) = re.findall(r"```python\n(.*?)```", part, re.S)
    return found


CODE = sources()


def run(lesson: str, strip: bool) -> dict:
    """Run all code of a lesson, in order: later exercises may call earlier answers."""
    names: dict = {"np": np, "ts": ts, "ops": ts.course.lessons.shuffle.ops}
    for key, code in CODE.items():
        if key.startswith(lesson):
            if strip:
                code = re.sub(
                    r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$", r"\1pass", code,
                    flags=re.M | re.S,
                )  # fmt: skip
            exec(code, names)
    return names


def test_every_exercise_is_written_and_every_lesson_has_three_to_five():
    assert list(CODE) == list(EXERCISES)
    lessons = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
    assert [path.stem for path in SOURCES] == [path.stem for path in lessons]
    counts = [sum(key[:2] == path.name[:2] for key in CODE) for path in lessons]
    assert all(3 <= count <= 5 for count in counts) and sum(counts) == len(CODE)


@every_exercise
def test_the_solution_passes_in_time(exercise):
    answer = run(exercise.key[:3], strip=False)[exercise.name]
    start = time.process_time()  # what it takes by itself, however busy the machine is
    reply = judge(exercise, answer)
    seconds = time.process_time() - start
    assert reply, reply
    assert f"{exercise.key} is right" in str(reply)
    assert seconds < SECONDS


@every_exercise
def test_the_starter_is_told_to_write_something(exercise):
    reply = judge(exercise, run(exercise.key[:3], strip=True)[exercise.name])
    assert not reply
    assert re.search("has no answer yet|returns nothing: write the body", reply.sentence)


@every_exercise
def test_three_wrong_answers_and_more_are_called_by_their_names(exercise):
    assert len(exercise.mistakes) >= 3
    for mistake in exercise.mistakes:
        if not exercise.cases:
            answer = mistake.wrong()
        else:
            answer = DRAWN.get(exercise.key, as_function)(mistake.wrong)
        with np.errstate(all="ignore"):
            reply = judge(exercise, answer)
        assert not reply
        assert mistake.name in reply.sentence, reply
        assert "Re-read notebook" in reply.sentence
        if exercise.cases:
            assert re.search("expected|raises", reply.sentence)


def as_function(wrong):
    return lambda *arguments: wrong(*arguments)


def as_figure(wrong):
    def draw(*arguments):
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.subplots()
        axes.plot(*np.asarray(wrong(*arguments)).T)
        axes.set(xlabel="groups", ylabel="memory access")
        return figure

    return draw


def as_experiment(wrong):
    def measure(*arguments):
        points, verdict = wrong(*arguments)
        return as_figure(lambda: points)(), verdict

    return measure


DRAWN = {"07.3": as_figure, "07.4": as_experiment}


def wrong_code(key: str, old: str, new: str):
    """The solution with a mistake put into it."""
    code = CODE[key]
    assert old in code
    names = run(key[:3], strip=False)
    exec(code.replace(old, new), names)
    return names[EXERCISES[key].name]


@pytest.mark.parametrize(
    ("key", "old", "new", "named"),
    [
        ("01.2", "ho * wo", "h * w", "the stride is forgotten"),
        ("01.2", "return n", "return 2 * n", "FLOPs are counted twice"),
        ("02.1", "(c // groups)", "(c // groups) // groups", "divided by the groups twice"),
        ("03.1", "groups, -1", "-1, groups", "written as (n, G) instead of (G, n)"),
        ("03.2", "dy.shape[-1] // groups", "groups", "shuffled once more"),
        ("04.1", "dy @ w.T", "dy @ w", "not transposed"),
        ("04.5", "w[i, j].T", "w[-1 - i, -1 - j].T", "the kernel is turned twice"),
        ("04.5", "dx[:, rows, columns] +=", "dx[:, rows, columns] =", "does not replace it"),
        ("05.5", " - mean * db_folded", "", "a stands in the bias, too"),
        ("05.5", "gamma / root", "1", "dw is scaled by a"),
        ("06.4", "dx + dz", "dx", "the shortcut's share of dx"),
        ("06.4", "channel_shuffle_backward", "channel_shuffle", "undone, not made once more"),
        ("05.1", "(0, 1, 2))  #", "(0, 1, 2), ddof=1)  #", "divided by M - 1"),
        ("05.2", " - dy.mean(axes)", "", "the mean's gradient is forgotten"),
        ("05.2", " - xhat * (dy * xhat).mean(axes)", "", "the variance's gradient is forgotten"),
        ("05.3", ", ddof=1", "", "the variance is biased"),
        ("06.1", "2 * c * m // g", "2 * c * m", "the groups are forgotten"),
        ("06.3", "return d + dz", "return d", "the shortcut is forgotten"),
        ("08.3", "channel_shuffle_backward", "channel_shuffle", "shuffled once more"),
        ("10.1", " / len(labels)", "", "divide by N"),
        ("12.2", "axis + 1", "axis", "own side does not count"),
        ("13.1", "min(x.min(), 0), max(x.max(), 0)  #", "x.min(), x.max()  #", "has to hold 0"),
        ("13.1", "/ 255", "/ 256", "have 255 steps"),
        ("13.2", "qx.astype(np.int32) @ qw.astype(np.int32)", "qx @ qw", "the sum wraps"),
        ("13.2", " - zx * qw.sum(axis=0, dtype=np.int32)", "", "the zero point is forgotten"),
        ("13.2", "zx * qw.sum(axis=0, dtype=np.int32)", "zx", "each of the products"),
        ("13.3", "abs(w)", "(w)", "compare absolute values"),
        ("13.4", "sigma[:r, None] * vt[:r]", "vt[:r]", "singular values are forgotten"),
        ("13.5", "return T *", "return", "the factor T is forgotten"),
        ("15.1", " + 0.5) /", ") /", "at the bin's corner"),
        ("15.2", "-scores", "scores", "the highest has to"),
        ("15.3", "1, 101", "1, 11", "11 recalls of Pascal VOC"),
        ("13.5", "softmax(z / T)", "softmax(z)", "the student's are, too"),
        ("13.5", " - logits.max(axis=1, keepdims=True)", "", "overflows"),
        ("14.1", " + squeeze", "", "squeeze-and-excitation is forgotten"),
        ("14.1", "(c // 4)", "(middle // 4)", "not of its middle"),
        ("14.1", "2 * middle * (c // 4)", "middle * (c // 4)", "two linear layers"),
        ("14.2", "/ np.log(wm)", "", "divide it by log(wm)"),
        ("14.2", "np.rint(np.log", "np.floor(np.log", "the exponent is cut off"),
        ("14.3", " + np.eye(len(b3))", "", "the shortcut is forgotten"),
        ("14.3", "np.eye(len(b3))", "1", "ones on the diagonal"),
        ("14.3", "w[1, 1] +=", "w[0, 0] +=", "belong in the middle tap"),
        ("14.4", "[first, dy[..., touched:]]", "[first, 0 * dy[..., touched:]]", "dy itself"),
        ("14.5", "np.where(x > 3, 1, inside)", "inside", "the function is x, whose slope is 1"),
    ],
)  # fmt: skip
def test_mistakes_in_the_solutions_themselves(key, old, new, named):
    reply = judge(EXERCISES[key], wrong_code(key, old, new))
    assert not reply
    assert "expected" in reply.sentence or "raises" in reply.sentence
    assert named in reply.sentence, reply


def code(text: str) -> dict:
    names: dict = {"np": np, "ops": ts.ops}
    exec(text, names)
    return names


NORMALISED = """
def batch_norm_dx(dy, x, gamma, eps):
    mu, var = x.mean((0, 1, 2)), x.var((0, 1, 2){})
    s = {}
    xhat = (x - mu) * s
    return gamma * s * (dy - dy.{} - xhat * (dy * xhat).{})
"""
ROOT_OF = "1 / np.sqrt(var + eps)"
BACK = """
def unit_backward(dy, y, layers):
    dz = {}
    d = dz
    for layer in {}:
        d = layer.backward(d)
    return {}
"""
THROUGH = "np.where(y > 0, dy, 0)"
GOES_TO = """
def goes_to(channel, channels, groups):
    n = channels // groups
    return {}
"""
TAPS = """
def depthwise_dw(dy, x, kernel, stride, padding):
    xp = {}
    dw = np.zeros((kernel, kernel, x.shape[-1]))
    ho, wo = dy.shape[1:3]
    for i in range(kernel):
        for j in range(kernel):
            dw[i, j] = (xp[:, i:i + {}:stride, j:j + {}:stride] * dy).{}
    return dw
"""
PADDED = "np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))"


@pytest.mark.parametrize(
    ("key", "text", "named"),
    [
        ("03.1", "def shuffle(x, groups): return x.reshape(groups, -1).T.reshape(x.shape)",
         "all of x is rearranged"),
        ("03.1", """def shuffle(x, groups):
    n, h, w, c = x.shape
    return x.reshape(n, h, w, c // groups, groups).transpose(0, 1, 2, 4, 3).reshape(n, h, w, c)""",
         "(n, G) instead of (G, n)"),
        ("03.3", GOES_TO.format("channel // n * groups + channel % n"), "row and column"),
        ("03.3", GOES_TO.format("channel * groups % (channels - 1)"), "the last channel stays"),
        ("03.4", "def groups_heard(channels, groups): return max(channels / groups, groups)",
         "the smaller one counts"),
        ("04.2", TAPS.format(PADDED, "ho", "wo", "sum((0, 1, 2))").replace(":stride", ""),
         "stride inputs apart"),
        ("04.2", TAPS.format("np.pad(x, padding)", "ho * stride", "wo * stride", "sum((0, 1, 2))"),
         "images and channels as well"),
        ("04.2", TAPS.format(PADDED, "ho * stride", "wo * stride", "sum((1, 2)).mean(0)"),
         "a mean over the images"),
        ("04.4", "def numeric_gradient(f, x, eps): return (f(x + eps) - f(x - eps)) / (2 * eps)",
         "all numbers are moved at once"),
        ("04.4", """def numeric_gradient(f, x, eps):
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up = x.copy()
        up[i] += eps
        g[i] = (f(up) - f(x)) / eps
    return g""", "to one side only"),
        ("05.1", "def statistics(x): return x.mean((0, 2, 3)), x.var((0, 2, 3))", "PyTorch"),
        ("05.1", """def statistics(x):
    d = x - x.mean((0, 1, 2))
    return x.mean((0, 1, 2)), (d * d).sum((0, 1, 2)) / (x[..., 0].size - 1)""",
         "divided by M - 1"),
        ("05.2", NORMALISED.format("", ROOT_OF, "sum((0, 1, 2))", "sum((0, 1, 2))"),
         "not divided by M"),
        ("05.2", NORMALISED.format("", ROOT_OF, "mean()", "mean()"), "over all channels"),
        ("05.2", NORMALISED.format(", ddof=1", ROOT_OF, "mean((0, 1, 2))", "mean((0, 1, 2))"),
         "divided by M - 1"),
        ("05.2", NORMALISED.format("", "1 / (var**0.5 + eps)", "mean((0, 1, 2))",
                                   "mean((0, 1, 2))"), "under the root"),
        ("05.3", """def running(mean, var, x, momentum):
    axes = (0, 1, 2)
    return (momentum * mean + (1 - momentum) * x.mean(axes),
            momentum * var + (1 - momentum) * x.var(axes))""", "weight of the new batch"),
        ("05.4", """def fold(w, gamma, beta, mean, var, eps):
    s = gamma / np.sqrt(var + eps)
    return w * s, beta + s * mean""", "the sign of a μ"),
        ("05.4", """def fold(w, gamma, beta, mean, var, eps):
    s = gamma / np.sqrt(var + eps)
    return w * s, beta - mean""", "the mean is scaled as well"),
        ("01.2", """def multiply_adds(x_shape, w_shape, stride, padding):
    (n, h, _, c), (k, _, _, o) = x_shape, w_shape
    return n * ((h + 2 * padding - k) // stride + 1)**2 * o * k * k * c""", "two sides each"),
        ("02.1", """def grouped_multiply_adds(x_shape, channels_out, kernel, groups, stride):
    n, h, w, c = x_shape
    return n * (h // stride) * (w // stride) * channels_out * kernel**2 * c // groups""",
         "rounded down"),
        ("02.1", """def grouped_multiply_adds(x_shape, channels_out, kernel, groups, stride):
    n, h, w, c = x_shape
    return n * (-(-h // stride))**2 * channels_out * kernel**2 * c // groups""", "not Ho²"),
        ("04.2", TAPS.format(PADDED, "ho * stride", "wo * stride", "mean((0, 1, 2))"),
         "a mean over images and pixels"),
        ("05.2", NORMALISED.format("", "1 / np.sqrt(var)", "mean((0, 1, 2))", "mean((0, 1, 2))"),
         "ε is forgotten"),
        ("05.2", NORMALISED.format("", ROOT_OF, "mean((0, 1, 2))", "mean((0, 1, 2))")
         .replace("dy - dy", "dy + dy"), "the mean's term has the wrong sign"),
        ("05.2", NORMALISED.format("", ROOT_OF, "mean((0, 1, 2))", "mean((0, 1, 2))")
         .replace("- xhat *", "+ xhat *"), "the variance's term has the wrong sign"),
        ("05.2", """def batch_norm_dx(dy, x, gamma, eps):
    xhat = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    s = 1 / np.sqrt(x.var(-1, keepdims=True) + eps)
    return gamma * s * (dy - dy.mean(-1, keepdims=True)
                        - xhat * (dy * xhat).mean(-1, keepdims=True))""", "this is layer norm"),
        ("05.4", """def fold(w, gamma, beta, mean, var, eps):
    return w * gamma / np.sqrt(var + eps), beta - gamma * mean""", "not β - γ μ"),
        ("07.1", "def memory_access(hw, c1, c2, g): return hw * (c1 + c2) + c1 * c2 * g",
         "multiplied by g"),
        ("08.3", """def v2_unit_backward(dy, branch_backward):
    return np.concatenate([dy[..., 1::2], branch_backward(dy[..., 0::2])], -1)""",
         "even and odd are swapped"),
        ("10.1", """def cross_entropy_gradient(logits, labels):
    e = np.exp(logits - logits.max())
    p = e / e.sum(1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return p / len(labels)""", "of the whole batch"),
        ("10.2", """def sgd_step(w, dw, v, lr, momentum, decay):
    v = momentum * v + dw
    return w - lr * (v + decay * w), v""", "decoupled, which is AdamW's"),
        ("06.1", "def unit_multiply_adds(hw, c, m, g): return hw * (c*m/g + 9*m*m/g + m*c/g)",
         "is depthwise, 9m"),
        ("06.1", "def unit_multiply_adds(hw, c, m, g): return hw * (2 * c/g * m/g + 9 * m)",
         "divided by the groups twice"),
        ("06.2", """def stride2_multiply_adds(hw, c_in, c_out, g):
    m = c_out // 4
    return hw * c_in * m / g + hw / 2 * (9 * m + m * (c_out - c_in) / g)""",
         "both sides are halved"),
        ("06.2", """def stride2_multiply_adds(hw, c_in, c_out, g):
    m = c_in // 4
    return hw * c_in * m / g + hw / 4 * (9 * m + m * (c_out - c_in) / g)""",
         "not of its input"),
        ("06.3", BACK.format(THROUGH, "layers", "d + dz"), "from the first to the last"),
        ("06.3", BACK.format("dy", "layers[::-1]", "(d + dz) * (y > 0)"), "its mask comes first"),
        ("06.3", BACK.format("dy * y", "layers[::-1]", "d + dz"), "not multiplied by y"),
        ("06.3", BACK.format(THROUGH, "layers[::-1]", "d + d"), "added to itself"),
        ("06.3", BACK.format(THROUGH, "layers[::-1]", "d + dy"), "masked as well"),
        ("12.2", "def bytes_apart(shape, axis): return np.zeros(shape).strides[axis]",
         "eight are a float64"),
        ("13.1", """def to_bytes(x):
    a, b = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32((b - a) / 255)
    return np.rint(x / scale), scale, np.rint(-a / scale)""", "the zero point is not added"),
        ("13.2", "def byte_sums(qx, zx, qw): return (qx - zx) @ qw.astype(int)",
         "a byte minus a byte"),
        ("13.2", "def byte_sums(qx, zx, qw): return (qx.astype(np.int16) - zx) @ qw",
         "16 bits hold nothing above"),
        ("13.3", """def prune(weights, share):
    return [np.where(abs(w) > np.quantile(abs(w), share), w, 0) for w in weights]""",
         "its own threshold"),
        ("13.3", """def prune(weights, share):
    flat = np.concatenate([w.ravel() for w in weights])
    keep = np.sort(abs(flat))[::-1][round(share * flat.size) - 1]
    return [w * (abs(w) >= keep) for w in weights]""", "not what is kept"),
        ("13.4", """def nearest(w, r):
    u, s, v = np.linalg.svd(w)
    return u[:, :r] * s[:r] @ v.T[:r, : w.shape[1]]""", "do not transpose it"),
    ],
)  # fmt: skip
def test_mistakes_as_students_write_them(key, text, named):
    reply = judge(EXERCISES[key], code(text)[EXERCISES[key].name])
    assert not reply
    assert named in reply.sentence, reply


@pytest.mark.parametrize(
    ("key", "answer", "called"),
    [
        ("03.1", lambda x, groups: ts.ops.channel_shuffle(x, groups), "channel_shuffle"),
        ("12.1", lambda x, w: depthwise_conv2d(x, w, padding=1), "depthwise_conv2d"),
        ("04.1", lambda dy, x, w: ts.ops.linear_backward(dy, x, w)[:2], "linear_backward"),
        ("04.5", lambda dy, w, x_shape, stride, padding:
         ts.ops.conv2d_backward(dy, np.zeros(x_shape), w, stride, padding)[0], "conv2d_backward"),
        ("01.3", lambda x, w, s, p: ts.ops.conv2d_cost(x, w, None, s, p).memory_access,
         "conv2d_cost"),
    ],
)  # fmt: skip
def test_the_library_is_no_answer(key, answer, called):
    reply = ts.course.check(key, answer)
    assert not reply
    assert f"gives the right result, but {EXERCISES[key].name} calls" in reply.sentence
    assert f"the library's own {called}: write it yourself" in reply.sentence


def test_what_an_exercise_allows_or_hands_over_may_be_called():
    def unit_backward(dy, y, layers):
        dz = d = ts.ops.relu_backward(dy, y)
        for layer in layers[::-1]:
            d = layer.backward(d)
        return d + dz

    assert ts.course.check("06.3", unit_backward)


@pytest.mark.parametrize("number", [100 * 58_621_952 / 60_954_656, 96.17])
def test_alexnets_share_is_known(number):
    assert "AlexNet's share" in ts.course.check("11.4", number).sentence


def test_one_per_cent_is_one_per_cent():
    """A tolerance is a share of the largest number that is expected, and is not added twice."""
    right = EXERCISES["11.4"].reference()
    assert ts.course.check("11.4", right * 1.0019)
    assert not ts.course.check("11.4", right * 1.0021)


def test_a_reply_says_which_case_fails_with_the_smallest_shape():
    reply = ts.course.check("03.1", lambda x, groups: x)
    assert not reply
    assert reply.sentence.startswith(
        "03.1 is not right yet. For x of shape (1, 1, 1, 6), groups=2, shuffle returns "
        "[[[[0 1 2 3 4 5]]]] where [[[[0 3 1 4 2 5]]]] is expected."
    )
    assert "Re-read notebook 03, section 3." in str(reply).replace("\n", " ")
    assert max(len(line) for line in repr(reply).splitlines()) <= 88


def right(x, groups):
    return ts.ops.channel_shuffle(x, groups)


def divides(x, groups):
    nothing = 1
    return nothing / 0


def changed(x, groups):
    x += 1
    return x


def rounded(x, groups):
    x += 0.1
    x -= 0.1
    return right(x, groups)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "has no answer yet"),
        (np.zeros(6), "asks for a function, and was given a value of type ndarray"),
        (divides, 'raises ZeroDivisionError: division by zero, in the line "return nothing / 0"'),
        (lambda x: x, "raises TypeError: <lambda>() takes 1 positional argument but 2 were given."),
        (lambda x, groups: sys.exit(), "raises SystemExit: no message"),
        (lambda x, groups: None, "returns nothing"),
        (lambda x, groups: "a word", "a value of type str where numbers are expected"),
        (lambda x, groups: right(x, groups).astype(str), "a value of type ndarray where numbers"),
        (lambda x, groups: right(x, groups) + 1j, "a value of type ndarray where numbers"),
        (lambda x, groups: [[1], [2, 3]], "a value of type list where numbers are expected"),
        (lambda x, groups: 10**400, "a value of type int where numbers are expected"),
        (lambda x, groups: right(x, groups) * np.nan, "[[[[nan nan nan nan nan nan]]]] where"),
        (lambda x, groups: x.ravel(), "an array of shape (6,) where (1, 1, 1, 6) is expected"),
        (lambda x, groups: right(x, groups).ravel(), "the right numbers, but of shape (6,) where"),
        (changed, "changes its argument x: work on a copy"),
        (rounded, "changes its argument x by rounding: put the old numbers back"),
    ],
)
def test_answers_of_the_wrong_kind(answer, said):
    reply = ts.course.check("03.1", answer)
    assert not reply and said in reply.sentence


@pytest.mark.parametrize(
    ("answer", "said"),
    [(None, "has no answer yet"), (sum, "asks for a number, and wider is a function"),
     ("many", "asks for a number, and wider is 'many'"), ("287", "wider is '287'"),
     ([144], "wider is [144]"), (np.nan, "wider is nan"), (2j, "wider is 2j"),
     (10**400, "asks for a number"), (300, "300 is too large"), (200.5, "200.5 is too small")],
)  # fmt: skip
def test_numbers_of_the_wrong_kind(answer, said):
    reply = ts.course.check("02.4", answer)
    assert not reply and said in reply.sentence
    assert "288" not in reply.sentence


def test_large_results_are_described_by_their_first_wrong_number():
    def last_wrong(dy, x, gamma, eps):
        right = EXERCISES["05.2"].reference(dy, x, gamma, eps)
        if right.size > 12:
            right[-1, -1, -1, -1] += 1
        return right

    reply = ts.course.check("05.2", last_wrong)
    assert "36 numbers, 1 of them wrong; the first is at [1, 2, 1, 2]" in reply.sentence
    assert "known mistake" not in reply.sentence


def test_small_differences_are_shown_with_all_their_digits():
    reply = ts.course.check("05.1", lambda x: (x.mean((0, 1, 2)), x.var((0, 1, 2)) + 1e-5))
    assert "the first is at [0]: 1.00001 where 1 is expected" in reply.sentence


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda dy, x, w: dy @ w.T, "returns a value of type ndarray where (dx, dw) is expected"),
        (lambda dy, x, w: (dy @ w.T, x.T @ dy, 0), "returns 3 results where (dx, dw) is expected"),
        (lambda dy, x, w: (x.T @ dy, dy @ w.T), "in the wrong order: (dx, dw) is expected"),
        (lambda dy, x, w: (dy @ w.T, None), "as dw, product_backward returns a value of type None"),
    ],
)
def test_several_results(answer, said):
    assert said in ts.course.check("04.1", answer).sentence


def test_a_slow_loop_is_told_so():
    from tinyshuffle.course.lessons.kernels import slow_depthwise

    reply = ts.course.check("12.1", slow_depthwise)
    assert not reply and "is right but slow" in reply.sentence


def test_code_that_fails_on_larger_images_only():
    def answer(x, w):
        if x.size > 1000:
            raise ValueError("too many")
        return ts.ops.depthwise_conv2d(x, w, padding=1)

    reply = ts.course.check("12.1", answer)
    assert reply.sentence == (
        "12.1 is right for small arguments, but for larger ones it raises ValueError: too many, "
        'in the line "raise ValueError("too many")".'
    )


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("even this")

    __repr__ = __str__


def test_an_error_that_cannot_be_shown_is_told():
    def answer(*arguments):
        raise Hostile

    reply = ts.course.check("03.1", answer)
    assert not reply and "it raises Hostile: a message that cannot be shown" in reply.sentence
    assert not ts.course.check("02.4", Hostile())


def test_an_error_with_escapes_is_told_without_them():
    def answer(*arguments):
        raise ValueError("[/oops]\x1b[2J\x07")

    reply = ts.course.check("03.1", answer)
    assert r"[/oops]\x1b[2J\x07" in repr(reply) and "\x1b" not in repr(reply)


def test_an_error_of_numba_is_told_in_one_line():
    import numba

    reply = ts.course.check("12.1", numba.njit(lambda x, w: nowhere))  # noqa: F821
    assert "NameError: name 'nowhere' is not defined" in reply.sentence
    assert "in the line" not in reply.sentence  # numba's lines are not the student's


def test_only_what_the_student_wrote_is_run(monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("a check has run text as a program")

    for name in ("eval", "exec", "compile"):
        monkeypatch.setattr(f"builtins.{name}", forbidden)
    said = [ts.course.check("03.1", lambda x, g: "1 / 0"), ts.course.check("02.4", "1 / 0")]
    monkeypatch.undo()
    assert not any(said) and "a value of type str" in said[0].sentence


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda *a: plt(*a), "a Figure is expected, and not a value of type Axes"),
        (lambda *a: plt(*a).figure, ""),
        (lambda *a: plt(*a, again=True).figure, "one pair of axes with one line"),
        (lambda *a: plt(*a, label="").figure, "an axis has no label"),
        (lambda *a: current(*a), ""),
    ],
)
def test_figures(answer, said):
    reply = ts.course.check("07.3", answer)
    assert bool(reply) == (not said) and said in reply.sentence


def plt(hw, c1, B, groups, label="memory access", again=False):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    for _ in range(1 + again):
        axes.plot(groups, [hw * (c1 + B * g / (hw * c1)) + B / hw for g in groups])
    axes.set(xlabel="groups", ylabel=label)
    return axes


def current(hw, c1, B, groups):
    """Draw with pyplot, into whatever figure is open."""
    from matplotlib import pyplot

    pyplot.plot(groups, [hw * (c1 + B * g / (hw * c1)) + B / hw for g in groups])
    pyplot.xlabel("groups")
    pyplot.ylabel("memory access")
    return pyplot.gcf()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda n, k: n // k, "a list of whole numbers is expected"),
        (lambda n, k: np.array_split(np.arange(n), k), "a list of whole numbers is expected"),
        (lambda n, k: [None] * k, "a list of whole numbers is expected"),
        (lambda n, k: [round(n / k)] * k, "returns [2 2] where [2 3] is expected"),
        (lambda n, k: (len(a) for a in np.array_split(np.arange(n), k)), "is right"),
    ],
)
def test_sizes_of_slices(answer, said):
    assert said in ts.course.check("12.3", answer).sentence


def test_progress_is_stored_beside_the_notebook(tmp_path):
    assert repr(ts.course.progress()).endswith(f"0 of {len(EXERCISES)} exercises are done")
    ts.course.check("02.4", 1)
    ts.course.check("02.4", 288)
    ts.course.check("02.4", 2)  # what was right once stays done
    ts.course.hint("01.1")
    assert [p.name for p in tmp_path.iterdir()] == [".tinyshuffle-course.json"]
    lines = repr(ts.course.progress()).splitlines()
    assert "02.4  done  How much wider for the same price?" in "\n".join(lines)
    assert lines[-1].startswith("1 of ")
    assert next(line for line in lines if line.startswith("01.1")).endswith("1 hint")


def test_hints_come_in_two_steps():
    first, second = ts.course.hint("03.1"), ts.course.hint("03.1")
    assert "one more" in first and "2." not in first
    assert second.startswith("1.") and "2." in second
    assert ts.course.hint("03.1") == second


@every_exercise
def test_the_first_hint_does_not_hold_the_second(exercise):
    assert len(set(exercise.hints)) == 2 and all(h.endswith((".", "?")) for h in exercise.hints)


def test_progress_that_cannot_be_read_or_written_does_not_stop_a_check(tmp_path, monkeypatch):
    stored = tmp_path / ".tinyshuffle-course.json"
    stored.write_text("{")
    reply = ts.course.check("02.4", 288)
    assert reply and "Not noted" in reply.sentence
    assert stored.read_text() == "{"
    assert ts.course.hint("02.4")
    with pytest.raises(ts.TinyshuffleError, match="move that file away"):
        ts.course.progress()


def test_an_unknown_exercise_is_answered_with_a_near_one():
    with pytest.raises(ts.TinyshuffleError, match=r"'3\.2'.*03\.2"):
        ts.course.check("3.2", None)


@every_exercise
def test_the_sections_to_re_read_exist(exercise):
    for see in {exercise.see, *(m.see for m in exercise.mistakes if m.see)}:
        lesson, section = re.fullmatch(r"notebook (\d\d), section (\d+)", see).groups()
        for notebook in (ROOT / "notebooks").glob(f"{lesson}-*.ipynb"):
            assert f"\"## {section}. " in notebook.read_text(encoding="utf-8"), see


def code_of(text: str) -> str:
    """Lines without indentation and comments."""
    lines = (line.split("  #")[0].strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("# "))


def test_solutions_are_not_importable():
    """They are no module, and stand nowhere in the package (but for formulas of one line)."""
    course = ROOT / "docs" / "course"
    beside = {p.parent.name for p in course.rglob("*.py")}
    assert beside == {"course", "unit", "kernel"}  # build.py, and the two starters
    package = code_of("".join(p.read_text("utf-8") for p in (ROOT / "tinyshuffle").rglob("*.py")))
    assert "BEGIN SOLUTION" not in package
    solutions = [
        code_of(part)
        for text in CODE.values()
        for part in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", text, re.S)
    ]
    assert len(solutions) == len(EXERCISES)
    assert [body for body in solutions if "\n" in body and body in package] == []
    code = """import sys
sys.path += ["../..", "../../.."]  # as the exercise notebooks do
import tinyshuffle.course.lessons
print([name for name in sys.modules if "solution" in name or "build" in name.split(".")])"""
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "notebooks" / "exercises",
        capture_output=True, text=True,
    )  # fmt: skip
    assert out.stdout.strip() == "[]", out.stderr


def test_importing_the_library_does_not_load_the_lessons():
    code = "import tinyshuffle, sys; print('tinyshuffle.course.lessons' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout.strip() == "False", out.stderr


def test_exercises_are_exercises():
    assert all(isinstance(e, Exercise) for e in EXERCISES.values())
    assert "03.1  Channel shuffle in one line" in repr(ts.course.exercises())


def test_a_figure_over_the_names_of_the_rows_is_right():
    over_names = wrong_code("07.4", "range(len(rows)), np.median", "rows, np.median")
    assert judge(EXERCISES["07.4"], over_names)


def test_an_answer_may_write_into_the_list_that_it_is_given():
    fuse = run("12.", strip=False)["fuse"]

    def in_place(rows, output):
        rows[:] = fuse(rows, output)
        return rows

    assert judge(EXERCISES["12.4"], in_place)


def test_a_batch_norm_with_two_relus_is_not_fused():
    text = CODE["12.4"].replace("for _, reads, _ in rows for", "for o, reads, _ in rows "
                                "if o != 'relu' for").replace("== 1 and", "== 0 and")  # fmt: skip
    fuse_both = code(text)["fuse"]
    rows = [("batch_norm", (1,), 2), ("relu", (2,), 3)]
    assert fuse_both(rows, 3) == [("norm_relu", (1,), 3)]
    assert not judge(EXERCISES["12.4"], fuse_both)
