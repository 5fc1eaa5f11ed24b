"""``python -m tinyshuffle.bench.worker``: one side of a comparison, in a process of its own.

The first line of the input is the job, each further one a question; each is answered with a line.
``settle`` and ``export`` write files that the other jobs read; ``tinyshuffle``, ``torch`` and
``onnxruntime`` are the sides, which wait for questions; ``layers`` and ``machine`` answer at once.
A side holds the net of its job, or as many as it is told to, by name.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import models, onnx
from ..backend import F
from ..errors import TinyshuffleError
from ..machine import describe, resident_memory
from ..parallel import DataParallel, set_num_threads
from . import ceilings, libraries
from .peers import torch_arguments, torch_net

__all__ = ["main"]

Job = dict[str, Any]


def _net(job: Job) -> Any:
    if "blocks" in job:
        from .blocks import build

        return build(job["blocks"])
    if "space" in job:
        from .search_space import Genome, Space

        space = Space(**job["space"])
        if "yardstick" in job:
            return models.create(job["yardstick"], num_classes=space.classes, stem=space.stem)
        if "genome" in job:
            return space.build(Genome(**job["genome"]))
        return DataParallel(space.module(job["part"])[0].initialise())
    if job.get("unit"):
        from .nets import stack

        return stack(job["unit"], job["channels"])
    variant = job.get("variant", {})
    net = models.create(job["model"], num_classes=job["classes"], stem=job["stem"], **variant)
    if job["weights"]:
        net.load_state_dict(_load(job["weights"]))
    return net


def _torch_net(job: Job) -> Any:
    from .peer_torch import blocks, load_state

    if "blocks" in job:
        from .blocks import build

        net, state = blocks(job["blocks"]), build(job["blocks"]).state_dict()
    else:
        ours, state = _net(job | {"weights": ""}), _load(job["weights"])
        net = torch_net(
            ours.net, _shape(job), job["train"], job["model"], job["variant"],
            num_classes=job["classes"], stem=job["stem"],
        )  # fmt: skip
    load_state(state, net)
    return net


def _shape(job: Job) -> tuple[int, ...]:
    return job["batch"], *libraries.height_and_width(job["size"]), 3


def _load(path: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _settle(job: Job) -> dict[str, Any]:
    """Write the weights of the run, and compile what it will use."""
    images, labels = libraries.draw(job["batch"], job["size"], job["classes"])
    set_num_threads(job["threads"])
    net = _net(job)
    libraries.settle(net, job["size"])
    np.savez(job["path"], **net.state_dict())
    libraries.Ours(net, images, labels, job["train"], job["threads"]).run()
    return {"machine": describe(job["threads"]).to_dict()}


def _export(job: Job) -> dict[str, Any]:
    """Write the net for ONNX Runtime: PyTorch does, of a net that was written in it by hand."""
    if "blocks" in job or torch_arguments(job["model"], job["variant"]) is not None:
        shape = job["batch"], job["size"], job["classes"], job.get("channels", 3)
        libraries.export(_torch_net(job), libraries.draw(*shape)[0], job["path"])
    else:
        size = libraries.height_and_width(job["size"])
        onnx.export(_net(job), job["path"], input_size=size)
    return {}


def _layers(job: Job) -> dict[str, Any]:
    from .layers import time_layers

    images, labels = libraries.draw(job["batch"], job["size"], job["classes"])
    set_num_threads(job["threads"])
    found = ceilings.measure(job["threads"], job["seconds"])
    net = _net(job)
    libraries.settle(net, job["size"])
    side = libraries.Ours(net, images, labels, job["train"], job["threads"])
    times = time_layers(side, job["rounds"])
    return {
        "machine": describe(job["threads"]).to_dict(),
        "ceilings": asdict(found),
        "times": times.to_dict(),
    }


def _machine(job: Job) -> dict[str, Any]:
    return {"machine": describe(job["threads"]).to_dict()}


def _calibrate(job: Job) -> dict[str, Any]:
    from .calibrate import calibrate

    return calibrate(job["cores"], job["threads"]).to_dict()


_ALONE = {
    "calibrate": _calibrate,
    "export": _export,
    "layers": _layers,
    "machine": _machine,
    "settle": _settle,
}


def _side(job: Job) -> Any:
    shape = job["batch"], job["size"], job["classes"], job.get("channels", 3)
    images, labels = libraries.draw(*shape)
    if job["kind"] == "onnxruntime":
        return libraries.OnnxRuntime(job["onnx"], images, job["threads"])
    arguments = images, labels, job["train"], job["threads"]
    if job["kind"] == "torch":
        compiled = job.get("compiled", False)
        return libraries.Torch(_torch_net(job), *arguments, job["format"], compiled)
    net = _net(job)
    if job.get("settle"):
        libraries.settle(net, job["size"], images.shape[3])
    return libraries.Ours(net, *arguments)


def _import(kind: str) -> None:
    """Import all that the side will use, so that the memory of its libraries is known."""
    if kind == "tinyshuffle":
        from .. import kernels  # noqa: F401
    elif kind == "torch":
        import torch  # noqa: F401
    else:
        import onnxruntime  # noqa: F401


def _answer(held: dict[str, Any], job: Job, question: Job) -> Any:
    what = question["ask"]
    if what == "hold":
        held.clear()  # the memory of the old nets is free before there are new ones
        for name, more in question["nets"].items():
            held[name] = _side(job | more)
        return None
    if what == "export":
        return _export(job | question)
    side = held[question.get("net", "")]
    if what == "run":
        times: list[float] = []
        end = time.perf_counter() + question["seconds"]
        while len(times) < question["least"] or time.perf_counter() < end:
            start = time.perf_counter()
            side.run()
            times.append(time.perf_counter() - start)
        return times
    if what == "check":
        path = Path(question["path"])
        np.savez(path, **side.check())
        return str(path)
    if what == "memory":
        return resident_memory()[0]
    raise AssertionError(f"unknown question {what!r}")


def main() -> None:
    """Do the job that the first line asks for, and answer the other lines."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    # what libraries print must not come between the answers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    try:
        if job["kind"] in _ALONE:
            say({"answer": _ALONE[job["kind"]](job)})
            return
        _import(job["kind"])
        _, memory = resident_memory()
        if job.get("backend"):
            F.use(job["backend"])
        held = {} if job.get("empty") else {"": _side(job)}
        say({"answer": {"memory": memory}})
        for line in sys.stdin:
            say({"answer": _answer(held, job, json.loads(line))})
    except TinyshuffleError as error:
        say({"error": str(error)})
    except MemoryError:
        say({"error": "there is not enough memory: use a smaller --batch or model"})


if __name__ == "__main__":
    main()
