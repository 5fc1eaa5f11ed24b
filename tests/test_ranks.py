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
from PIL import Image

import tinyshuffle as ts
from tinyshuffle.cli import cli
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.files import installed
from tinyshuffle.parallel import usable_cores
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


def kill_one(process, which):
    """Kill one of the ranks; all end with a sentence, and nothing of them is left."""
    family = psutil.Process(process.pid).children(recursive=True)
    victims = [p for p in family if TINY[0] in p.cmdline()]
    victims[which % len(victims)].kill()
    since = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert time.monotonic() - since < 60
    assert process.returncode != 0 and out.count("Error: one of the ranks has ended") == 1, out
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The log of the same run in one process, from the first step to the last."""
    where = tmp_path_factory.mktemp("whole")
    code, out = run(1, *TINY, *OPTIONS, "--runs-dir", where, "--threads", "1")
    assert code == 0, out
    return where / "run" / "log.jsonl"


def assert_same_losses(log, other):
    logs = ([json.loads(line) for line in path.read_text().splitlines()] for path in (log, other))
    for a, b in zip(*logs, strict=True):
        for loss in ("train_loss", "test_loss"):
            assert a[loss] == pytest.approx(b[loss], rel=1e-4)


@mpi
def test_a_run_continues_with_another_number_of_ranks(tmp_path, whole):
    """Kill one: all end at once with a sentence, and no epoch is lost but the one under way."""
    where = ["--runs-dir", tmp_path, "--threads", "1"]
    process = start(3, *TINY, *OPTIONS, "--mpi", *where, STEP_SECONDS="0.3")
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists():  # until the first epoch is done
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    kill_one(process, -1)
    assert len(log.read_text().splitlines()) >= 1
    code, out = run(2, *TINY, "--mpi", "--resume", tmp_path / "run")
    assert code == 0 and out.count("continuing after step") == 1, out
    assert out.count("begun by 3 ranks and continued by 2: the same training") == 1
    assert_same_losses(log, whole)


@mpi
@pytest.mark.slow
def test_ten_ranks_killed_at_random(tmp_path, whole):
    """Two to four ranks, killed within the two seconds that follow their first checkpoint."""
    rng = np.random.default_rng()
    for i in range(10):
        where = ["--runs-dir", tmp_path / str(i), "--threads", "1"]
        process = start(int(rng.integers(2, 5)), *TINY, *OPTIONS, "--mpi", *where,
                        STEP_SECONDS="0.5")  # fmt: skip
        here = tmp_path / str(i) / "run"
        while not (here / "last.npz").exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2))
        kill_one(process, int(rng.integers(4)))
        size = int(rng.integers(1, 4))
        code, out = run(size, *TINY, "--mpi", "--resume", here)
        assert code == 0, out
        assert_same_losses(here / "log.jsonl", whole)


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
    assert "differs from rank 0 in its training images (7, not 0)" in out
    assert "runs on CPU 1, and rank 0 on CPU 0" in out


@mpi
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--optimizer", "nonsense"], "optimizer='nonsense' was given"),
        (["--backend", "numpy"], "backend=numpy was given, with which each rank"),
        (["--batch-size", "1"], "batch_size=1 was given, and there are 2 ranks"),
        (["--lr", "x"], "'x' is not a valid float"),  # known before there is MPI
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, options, sentence):
    code, out = run(2, *TINY, "--mpi", "--runs-dir", tmp_path, *options)
    assert code != 0 and out.count("Error: ") == 1 and sentence in out, out
    assert not list(tmp_path.glob("*/*.npz"))


@mpi
@pytest.mark.parametrize(
    ("command", "advice"),
    [(["train"], "add --mpi"), (["sweep", "coffee", "--over", "lr=1,2"], "start it without")],
)
def test_several_processes_do_not_do_the_same_side_by_side(tmp_path, command, advice):
    code, out = run(2, TINY[0], *command, "--runs-dir", tmp_path)
    assert code != 0 and out.count("Error: ") == 1, out
    assert "2 processes were started, as by mpiexec, and each would do all of this" in out
    assert advice in out and not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", ["OMPI_COMM_WORLD_{}", "PMI_{}", "MV2_COMM_WORLD_{}"])
def test_every_mpi_is_noticed(monkeypatch, names):
    monkeypatch.setenv(names.format("SIZE"), "3")
    monkeypatch.setenv(names.format("RANK"), "0")
    done = CliRunner().invoke(cli, ["detect", "compare"])
    assert done.exit_code == 1 and "start it without mpiexec" in done.output
    monkeypatch.setenv(names.format("RANK"), "2")
    done = CliRunner().invoke(cli, ["detect", "compare"])
    assert done.exit_code == 1 and done.output == ""  # another one of the machine says it
    monkeypatch.setenv(names.format("SIZE"), "1")
    assert CliRunner().invoke(cli, ["cost", "shufflenet_v2_x0_5"]).exit_code == 0


@mpi
def test_threads_are_those_of_the_recipe_or_of_the_run(tmp_path):
    recipe = tmp_path / "three.toml"
    recipe.write_text('data = "shapes"\nepochs = 1\nbatch_size = 35\nthreads = 3\n')
    for options, threads in (
        (["--recipe", recipe], 3),
        (["--recipe", recipe, "--threads", "2"], 2),
        ([], max(1, usable_cores() // 2)),
    ):
        code, out = run(2, *TINY, "--mpi", "--show", *options)
        shown = [line for line in out.splitlines() if line.startswith("threads = ")]
        assert code == 0 and shown == [f"threads = {threads}"], out  # once, and not by each rank
    code, out = run(
        2, *TINY, "--mpi", "--recipe", recipe, "--name", "run", "--runs-dir", tmp_path
    )
    assert code == 0 and "2 ranks of 3 threads" in out, out
    code, out = run(2, *TINY, "--mpi", "--resume", tmp_path / "run")
    assert code == 0 and out.count("2 ranks of 3 threads;") == 1, out
    code, out = run(2, *TINY, "--mpi", "--resume", tmp_path / "run", "--threads", "1")
    assert code == 0 and out.count("2 ranks of 1 thread;") == 1, out


@mpi
def test_more_threads_than_cores_are_told(tmp_path):
    size = usable_cores() + 1
    options = "--epochs", "1", "--batch-size", "35", "--runs-dir", tmp_path
    code, out = run(size, *TINY, "--mpi", *options)
    assert code == 0 and out.count("Warning: ") == 1, out
    assert f"{size} ranks of 1 thread take turns on the {size - 1} core" in out


@mpi
def test_each_alone_and_continued_otherwise_is_told(tmp_path):
    where = ["--runs-dir", tmp_path, "--threads", "1"]
    code, out = run(2, *TINY, *OPTIONS, "--mpi", "--sync-bn", "no", *where)
    assert code == 0 and "Warning" not in out, out
    code, out = run(1, *TINY, "--resume", tmp_path / "run")
    assert code == 0 and out.count("begun with --sync-bn no, by ranks") == 1, out
    shutil.rmtree(tmp_path / "run")
    run(2, *TINY, *OPTIONS, "--mpi", "--sync-bn", "no", *where)
    code, out = run(1, *TINY, "--mpi", "--resume", tmp_path / "run")
    assert code == 0, out
    assert "with --sync-bn no, begun by 2 ranks and continued by 1, which normalise other" in out


def test_a_recipe_without_effect_without_ranks(tmp_path):
    recipe = tmp_path / "alone.toml"
    recipe.write_text('data = "shapes"\nsync_bn = false\n')
    for command in (["train", "--recipe"], ["sweep", "--over", "lr=0.1,0.2"], ["ablate", "se",
                    "--recipe"]):  # fmt: skip
        options = ["--runs-dir", str(tmp_path / "runs")]
        done = CliRunner().invoke(cli, [*command, str(recipe), *options])
        assert done.exit_code == 1 and "no effect without ranks" in done.output, done.output
    assert not (tmp_path / "runs").exists()


IN_TURN = """
import os, sys, time
from tinyshuffle.errors import TinyshuffleError
from tinyshuffle.ranks import ranks
what = os.environ["WHAT"]
with ranks(patience=2.0) as us:
    def work():
        began = time.monotonic()
        if us.rank == 0 and what == "busy":
            while time.monotonic() < began + 6:  # three times as long as others are patient
                sum(range(10_000))
        if us.rank == 0 and what == "hangs":
            time.sleep(60)
        if us.rank == 1 and what == "fails":
            raise TinyshuffleError("there is no data set")
        return began, time.monotonic()
    try:
        times = us.all(us.in_turn(work))
    except TinyshuffleError as error:
        if us.rank == 0:
            sys.exit(f"all say: {error}")
        sys.exit(1)
    if us.rank == 0:
        print("in turn:", all(times[0][1] <= began for began, _ in times[1:]))
"""


@mpi
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("busy", "in turn: True"),
        ("hangs", "Error: rank 0 has said nothing for 2 s"),
        ("fails", "all say: rank 1 ("),
    ],
)
def test_the_first_loads_and_the_others_wait_as_long_as_it_gets_on(what, words):
    code, out = run(3, "-c", IN_TURN, WHAT=what)
    assert (code == 0) == (what == "busy") and out.count(words) == 1, out


@mpi
def test_data_are_loaded_by_the_first_rank_first(tmp_path):
    code, out = run(2, "-c", LOADS, *LOADING, "--runs-dir", tmp_path, DIARY=str(tmp_path / "d"))
    assert code == 0, out
    assert (tmp_path / "d").read_text().split() == ["0", "0", "1", "1"], out


LOADING = ["train", "--mpi", "--epochs", "1", "--batch-size", "35", "--threads", "1"]
LOADS = """
import os, time
from tinyshuffle import data
from tinyshuffle.ranks import current
from train import tiny_run
tiny_run.install()
load = data.load
def slowly(*args, **options):
    for _ in range(2):
        with open(os.environ["DIARY"], "a") as file:
            file.write(f"{current().rank}\\n")
        time.sleep(0.5)
    return load(*args, **options)
data.load = slowly
from tinyshuffle.cli import main
main()
"""
FOLDERS = """
import os, sys
from tinyshuffle import models
from train import tiny_run
models.create = tiny_run.create
mine = sys.argv.pop(1)
os.chdir(mine)
from tinyshuffle.cli import main
main()
"""


@mpi
def test_files_may_lie_elsewhere_on_each_machine_but_not_be_others(tmp_path):
    rng = np.random.default_rng(0)
    for place in ("one", "two"):
        for i in range(12):
            path = tmp_path / place / "pictures" / ("cat", "dog")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if place == "two":
                path.write_bytes((tmp_path / "one" / path.relative_to(tmp_path / "two"))
                                 .read_bytes())  # fmt: skip
            else:
                Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
    options = ["train", "--epochs", "1", "--batch-size", "4", "--data", "pictures", "--side", "8",
               "--threads", "1", "--runs-dir", tmp_path / "runs"]  # fmt: skip

    def both(*more):
        sides = [["-c", FOLDERS, tmp_path / place, *options, *more] for place in ("one", "two")]
        return run(1, *sides[0], ":", "-n", "1", sys.executable, *sides[1],
                   TINYSHUFFLE_DATA=str(tmp_path / "kept"))  # fmt: skip

    code, out = both("--mpi", "--name", "first")
    assert code == 0, out
    for place in ("one", "two"):  # weights to begin with, as each place has them
        shutil.copy(tmp_path / "runs" / "first" / "last.npz", tmp_path / place / "weights.npz")
    code, out = both("--mpi", "--name", "second", "--init", "weights.npz")
    assert code == 0, out
    changed = tmp_path / "two" / "pictures" / "cat" / "0.png"
    Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(changed)
    code, out = both("--mpi", "--name", "third")
    assert code != 0 and out.count("Error: ") == 1 and "differs from rank 0 in its t" in out, out


def test_what_is_only_for_several_processes():
    done = CliRunner().invoke(cli, ["train", "--sync-bn", "no"])
    assert done.exit_code == 1 and "--sync-bn has no effect without --mpi" in done.output


def test_mpi4py_is_asked_for(monkeypatch):
    monkeypatch.setattr("tinyshuffle.ranks.installed", lambda package: False)
    with pytest.raises(TinyshuffleError, match="pip install mpi4py mpich"), ranks():
        pass
