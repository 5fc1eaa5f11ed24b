"""The benchmark beside real peers: they compute the same, or are refused."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import tinyshuffle as ts
from tinyshuffle.bench import guidelines, libraries, process, run
from tinyshuffle.bench.peer_graph import torch_graph
from tinyshuffle.bench.peers import no_compiler
from tinyshuffle.bench.process import Worker
from tinyshuffle.bench.progress import Progress
from tinyshuffle.cli import cli
from tinyshuffle.files import installed

SMALL = ["--batch", "4", "--input-size", "16", "--rounds", "1", "--threads", "1"]
PEERS = ["torch"] + ["onnxruntime"] * all(installed(p) for p in ("onnx", "onnxruntime"))


def test_a_step_beside_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-compiler-here")  # torch.compile would take minutes
    model = ["--model", "shufflenet_v1_x0_5_g3"]
    command = ["bench", "step", "--peer", "torch", *model, "--format", "json", *SMALL]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    ours, theirs = record["sides"]
    assert (ours["name"], theirs["name"]) == ("tinyshuffle", "PyTorch")
    assert theirs["format"] in ("NCHW", "channels_last")
    assert theirs["differences"].keys() == {"logits", "loss", "gradient's norm"}
    assert len(ours["bursts"]) == len(theirs["bursts"]) == 1 and theirs["ratio"]["count"] == 1
    assert "there is no 'no-compiler-here'" in record["left_out"]


SMALLEST = ts.nn.Sequential(ts.nn.Conv2d(3, 4, 1), ts.nn.BatchNorm2d(4), ts.nn.GlobalAvgPool())


def torch_side() -> libraries.Torch:
    images, labels = libraries.draw(4, 8, 4)
    net = torch_graph(SMALLEST, images.shape, True)
    return libraries.Torch(net, images, labels, True, 1, "channels_last", compiled=True)


def test_what_does_not_compile_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(net: Any) -> Any:
        def broken(x: Any) -> Any:
            raise RuntimeError("g++: error\nno input files")

        return broken

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(ts.TinyshuffleError, match="^it does not compile here: g.*error no input"):
        torch_side().check()


@pytest.mark.slow
@pytest.mark.skipif(no_compiler() != "", reason=no_compiler())
def test_a_compiled_step_computes_the_same() -> None:
    side = torch_side()
    net = deepcopy(side.net)  # with statistics of its own
    eager = libraries.Torch(net, *libraries.draw(4, 8, 4), True, 1, "channels_last")
    mine, theirs = side.check(), eager.check()
    for what, value in theirs.items():
        np.testing.assert_allclose(mine[what], value, rtol=1e-4, atol=1e-5, err_msg=what)
    side.run()


def test_inference_beside_all_peers() -> None:
    peers = [word for peer in PEERS for word in ("--peer", peer)]
    result = CliRunner().invoke(cli, ["bench", "inference", *peers, *SMALL])
    assert result.exit_code == 0, result.output
    assert "PyTorch, " in result.stdout and "the same, logits to" in result.stdout
    assert ("ONNX Runtime" in result.stdout.split("versions")[0]) == (len(PEERS) == 2)


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("torch", "stage3.2.branch2.5.weight"),
        ("onnxruntime", "stage2.0.branch1.1.running_mean"),
    ][: len(PEERS)],
)
def test_a_peer_with_one_wrong_tensor_is_refused(
    peer: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Corrupting(Worker):
        def __init__(self, side: str, job: dict) -> None:
            if job["kind"] in ("torch", "export"):
                with np.load(job["weights"]) as file:
                    state = dict(file)
                state[name] = np.roll(state[name], 1, axis=-1)
                job = job | {"weights": job["weights"].replace("weights", "corrupted")}
                np.savez(job["weights"], **state)
            super().__init__(side, job)

    for module in (run, process):
        monkeypatch.setattr(module, "Worker", Corrupting)
    case = run.Case("inference", "shufflenet_v2_x0_5", 4, 16, 1, "cifar")
    with (
        pytest.raises(ts.TinyshuffleError, match=r"computes something else \(logits differ by"),
        Progress() as progress,
    ):
        run.compare_sides(case, [peer], 1, progress, burst=0.01)


def test_the_guidelines_beside_all_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidelines, "SIZE", 4)
    effort = guidelines.Effort(1, 0.001, ("ARM x1", "ARM c=32"))
    with Progress() as progress:
        found = guidelines.measure_guidelines(["g2", "g4"], PEERS, 1, effort, progress)
    names = ["tinyshuffle", "NumPy backend", "PyTorch", "ONNX Runtime"][: 2 + len(PEERS)]
    for table, rows in found.tables.items():
        assert [side.side for side in rows] == names
        for side in rows:
            (turns,) = side.seconds.values()
            assert len(turns) == 4 and all(len(row) == 1 and row[0] > 0 for row in turns)
            assert side.differences < 1e-4, table


def test_a_peer_with_another_net_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time would mean nothing, so the guideline is not judged."""

    class Shortening(Worker):
        def ask(self, what: str, **more: Any) -> Any:
            if what == "hold" and self.name == "PyTorch":
                shorter = {n: j | {"blocks": j["blocks"][:-1]} for n, j in more["nets"].items()}
                more = {"nets": shorter}
            return super().ask(what, **more)

    monkeypatch.setattr(guidelines, "SIZE", 4)
    monkeypatch.setattr(guidelines, "Worker", Shortening)
    effort = guidelines.Effort(1, 0.001, ("ARM x1",))
    with (
        pytest.raises(ts.TinyshuffleError, match=r"PyTorch computes something else"),
        Progress() as progress,
    ):
        guidelines.measure_guidelines(["g2"], ["torch"], 1, effort, progress)


def test_a_net_that_nobody_wrote_in_pytorch() -> None:
    peers = [word for peer in PEERS for word in ("--peer", peer)]
    model = ["--model", "mobilenet_v2_x0_15"]
    command = ["bench", "inference", *peers, *model, "--format", "json", *SMALL]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert len(record["sides"]) == 1 + len(PEERS)
    assert all(side["differences"]["logits"] < 1e-3 for side in record["sides"][1:])
