"""Where only NumPy is installed, as in a browser, the library is imported, computes and checks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import pytest

ROOT = Path(__file__).parents[1]
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "dependencies"
]
BLOCKED = sorted(
    {"pillow": "PIL"}.get(name, name)
    for name in (re.match(r"[\w-]+", line)[0] for line in DEPENDENCIES)
    # before Python 3.11 tables cannot be read without it
    if name not in ("numpy", "tomli")
)


def alone(program: str, blocked: list[str] = BLOCKED) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python in which these packages cannot be imported."""
    start = f"import sys\nsys.path[0] = {str(ROOT)!r}\n"
    start += f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
    return subprocess.run(
        [sys.executable, "-c", start + program], capture_output=True, text=True, check=False
    )


def test_the_blocked_are_all_that_the_package_asks_for():
    assert {"numba", "psutil", "threadpoolctl", "click", "matplotlib", "PIL"} <= set(BLOCKED)


def test_numpy_alone_is_enough_to_train_count_check_and_learn():
    done = alone("""
import numpy as np
import tinyshuffle as ts

net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar", seed=0)
images, labels = np.ones((2, 32, 32, 3), np.float32), np.array([3, 1])
loss, opt = ts.nn.CrossEntropyLoss(), ts.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
first = loss(net(images), labels)
net.backward(loss.backward())
opt.step()
opt.zero_grad()
net.eval()
assert net(images).shape == (2, 10)
print(ts.cost.profile("shufflenet_v2_x0_5").total.params)
print(ts.gradcheck(ts.nn.ReLU(), np.linspace(-1, 1, 10).reshape(2, 5)).passed)
print(ts.course.check("03.2", lambda dy, groups: dy))
""")
    assert done.returncode == 0, done.stderr
    params, passed, reply = done.stdout.split("\n", 2)
    assert params == "1366792" and passed == "True" and "03.2" in reply
    assert done.stderr.splitlines() == [
        "tinyshuffle: numba is not installed, so NumPy does the work: same results, but slowly"
    ]


def test_what_predicts_times_is_imported_without_numba():
    done = alone("""
from tinyshuffle.bench import blocks, guidelines, nets
from tinyshuffle.bench.calibrate import fit
from tinyshuffle.bench.ceilings import Ceilings
print(Ceilings(flops=200e9, bandwidth=20e9).seconds(1e9, 10e6), guidelines.median_interval([1, 2]))
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0.01", "(1,", "2)"]


def test_where_numba_is_installed_nothing_is_said():
    done = alone("import tinyshuffle", blocked=[])
    assert (done.returncode, done.stderr) == (0, "")


def test_the_loss_is_the_one_with_numba():
    program = """
import numpy as np
import tinyshuffle as ts
net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar", seed=0)
images = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
print(ts.nn.CrossEntropyLoss()(net(images), np.array([3, 1])))
"""
    without, kernels = (float(alone(program, blocked).stdout) for blocked in (["numba"], []))
    assert without == pytest.approx(kernels, rel=1e-4)


def test_numba_is_refused_in_a_sentence_where_it_is_not_installed():
    done = alone("""
import tinyshuffle as ts
try:
    with ts.backend("numba"):
        pass
except ts.TinyshuffleError as error:
    print(error)
""")
    assert done.stdout.strip() == (
        "the backend 'numba' was asked for, and numba is not installed: "
        "pip install numba, or use 'numpy'"
    )


def test_nothing_that_a_browser_cannot_install_is_asked_for_there():
    requirements = pytest.importorskip("packaging.requirements")
    wanted = [requirements.Requirement(line) for line in DEPENDENCIES]

    def on(platform: str) -> set[str]:
        marks = {"sys_platform": platform, "python_version": "3.13"}
        return {one.name for one in wanted if one.marker is None or one.marker.evaluate(marks)}

    assert on("linux") - on("emscripten") == {"numba", "psutil"}
