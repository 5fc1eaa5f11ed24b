"""Several processes share each batch: the same numbers as one, and what if one is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import ranks_program
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.files import installed
from tinyshuffle.ranks import ranks

HERE = Path(__file__).parent
PATHS = str(Path(sys.executable).parent), *os.get_exec_path()
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join(PATHS))
mpi = pytest.mark.skipif(
    not (installed("mpi4py") and MPIEXEC), reason="needs pip install mpi4py mpich"
)
TINY = [str(HERE / "train" / "tiny_run.py"), "train"]
OPTIONS = ["--epochs", "3", "--batch-size", "35", "--lr", "0.05", "--name", "run"]


def start(size, *arguments, **environment):
    """Start processes; both streams come out of one."""
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    return subprocess.Popen(
        [str(MPIEXEC), "-n", str(size), sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )  # fmt: skip


def run(size, *arguments, **environment):
    process = start(size, *arguments, **environment)
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process and one thread come to."""
    out = tmp_path_factory.mktemp("ranks") / "alone.npz"
    program = [sys.executable, str(HERE / "ranks_program.py"), str(out), "1", "none"]
    subprocess.run(program, check=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
    return np.load(out)


def steps(path, size, threads, sync="yes"):
    code, out = run(size, HERE / "ranks_program.py", path, threads, sync)
    assert code == 0, out
    return np.load(path)


@mpi
@pytest.mark.parametrize(("size", "threads"), [(2, 1), (2, 2), (3, 1), (4, 1)])
def test_ranks_do_what_one_process_does(alone, tmp_path, size, threads):
    """13 images: loss, gradients, running statistics and five steps."""
    found = steps(tmp_path / "a.npz", size, threads)
    assert set(found.files) == set(alone.files)
    for name in alone.files:
        bound = 1e-10 if name.startswith("float64") else 1e-4
        scale = max(1e-2, np.abs(alone[name]).max())  # some gradients are nothing but rounding
        assert np.abs(found[name] - alone[name]).max() <= bound * scale, name
    if (size, threads) != (2, 2):
        return  # once is enough
    again = steps(tmp_path / "b.npz", size, threads)
    assert all(np.array_equal(found[name], again[name]) for name in found.files)


@mpi
def test_each_rank_may_normalise_by_itself(tmp_path):
    """Then the gradient is the sum of what each part of the batch gives alone."""
    found = steps(tmp_path / "a.npz", 2, 1, "no")
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((13, 8, 8, 3)), rng.integers(0, 10, 13)
    parts = slice(0, 6), slice(6, 13)
    nets = [next(ranks_program.nets())[1].astype(np.float64) for _ in parts]
    loss = ts.nn.CrossEntropyLoss()
    logits = [net(x[part]) for net, part in zip(nets, parts, strict=True)]
    assert float(loss(np.concatenate(logits), labels)) == pytest.approx(
        float(found["float64/v2/loss0"]), rel=1e-12
    )
    dlogits = loss.backward()
    for net, part in zip(nets, parts, strict=True):
        net.backward(dlogits[part])
    for p, q in zip(*(net.parameters() for net in nets), strict=True):
        right = found[f"float64/v2/grad/{p.name}"]
        np.testing.assert_allclose(p.grad + q.grad, right, rtol=1e-9, atol=1e-12)


@mpi
def test_a_run_continues_with_another_number_of_ranks(tmp_path):
    """Kill one: all end at once with a sentence, and no epoch is lost but the one under way."""
    where = ["--runs-dir", tmp_path, "--threads", "1"]
    process = start(3, *TINY, *OPTIONS, "--mpi", *where, STEP_SECONDS="0.3")
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists():  # until the first epoch is done
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    victim = [p for p in family if TINY[0] in p.cmdline()][-1]
    victim.kill()
    since = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert time.monotonic() - since < 60
    assert process.returncode != 0 and out.count("Error: one of the ranks has ended") == 1
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert len(log.read_text().splitlines()) >= 1
    code, out = run(2, *TINY, "--mpi", "--resume", tmp_path / "run")
    assert code == 0 and out.count("continuing after step") == 1, out
    # the same in one process, from the first step to the last
    code, out = run(1, *TINY, *OPTIONS, "--runs-dir", tmp_path / "alone", "--threads", "1")
    assert code == 0, out
    for a, b in zip(
        *(
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in (log, tmp_path / "alone" / "run" / "log.jsonl")
        ),
        strict=True,
    ):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-4)
        assert a["test_loss"] == pytest.approx(b["test_loss"], rel=1e-4)


@mpi
def test_ctrl_c_stops_all_after_the_same_step(tmp_path):
    process = start(
        2, *TINY, *OPTIONS, "--mpi", "--runs-dir", tmp_path, "--threads", "1", STEP_SECONDS="0.3"
    )
    while not (tmp_path / "run" / "last.npz").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and out.count("stopped after step") == 1, out
    code, out = run(1, *TINY, "--resume", tmp_path / "run")
    assert code == 0, out


SILENT = """
import time
from tinyshuffle.ranks import ranks
with ranks(patience=1.0) as us:
    us.most(1.0)
    if us.rank == 1:
        time.sleep(60)
    us.most(1.0)
"""
UNLIKE = """
from tinyshuffle.ranks import ranks
with ranks() as us:
    print(us.check_alike({"versions": 1}, f"CPU {us.rank}"))
    us.check_alike({"training images": 7 * (us.rank == 1)}, "")
"""


@mpi
def test_a_silent_rank_is_named():
    since = time.monotonic()
    code, out = run(3, "-c", SILENT)
    assert code != 0 and time.monotonic() - since < 60
    assert out.count("Error: rank 1 has said nothing for 1 s") == 1, out


FAILS = """
import os
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.ranks import current
from tinyshuffle.train import loop
before = loop.Trainer.write_log
def write_log(self):
    if current().rank == int(os.environ["FAILING"]):
        raise TinyshuffleError("the disk is full")
    before(self)
loop.Trainer.write_log = write_log
from train import tiny_run
tiny_run.install()
from tinyshuffle.cli import main
main()
"""


@mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_alone_says_why_and_ends_all(tmp_path, rank):
    options = ["--epochs", "3", "--batch-size", "35", "--name", "run", "--runs-dir", tmp_path]
    code, out = run(3, "-c", FAILS, "train", "--mpi", *options, FAILING=str(rank))
    assert code != 0 and f"Error: rank {rank} (" in out, out
    assert out.count("the disk is full") == 1, out


@mpi
def test_ranks_that_differ_are_noticed():
    code, out = run(2, "-c", UNLIKE)
    assert code != 0 and "rank 1" in out
    assert "has other training images than rank 0 (7, not 0)" in out
    assert "runs on CPU 1, and rank 0 on CPU 0" in out


@mpi
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--optimizer", "nonsense"], "optimizer='nonsense' was given"),
        (["--backend", "numpy"], "backend=numpy was given, with which each rank"),
        (["--batch-size", "1"], "batch_size=1 was given, and there are 2 ranks"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, options, sentence):
    code, out = run(2, *TINY, "--mpi", "--runs-dir", tmp_path, *options)
    assert code != 0 and out.count("Error: ") == 1 and sentence in out, out
    assert not list(tmp_path.glob("*/*.npz"))


def test_what_is_only_for_several_processes():
    done = CliRunner().invoke(cli, ["train", "--sync-bn", "no"])
    assert done.exit_code == 1 and "--sync-bn has no effect without --mpi" in done.output


def test_mpi4py_is_asked_for(monkeypatch):
    monkeypatch.setattr("tinyshuffle.ranks.installed", lambda package: False)
    with pytest.raises(TinyshuffleError, match="pip install mpi4py mpich"), ranks():
        pass
