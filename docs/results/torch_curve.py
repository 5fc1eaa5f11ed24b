"""Train a recipe's ShuffleNet V2 in PyTorch, eager, on the same cores, and log it as train does.

    python docs/results/torch_curve.py coffee --seed 0 --name torch-coffee-seed0

The net is PyTorch's own modules with the same first weights; order, augmentation, schedule,
optimiser, average of the weights, statistics of batch norm before each test, and the test are those
of tinyshuffle's run of the recipe and seed. The batches come from tinyshuffle.data, which prepares
them faster than PyTorch's loaders do. RUNS_DIR/NAME receives log.csv, log.jsonl, curves.png,
config.json and machine.json; the same command continues after the last whole epoch.
draw_curve.py puts it beside tinyshuffle's own log.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tinyshuffle as ts  # noqa: E402
from tinyshuffle.bench.peer_torch import ShuffleNetV2, copy_weights  # noqa: E402
from tinyshuffle.files import atomic_write, write_json  # noqa: E402
from tinyshuffle.train import Config, record, schedule  # noqa: E402
from tinyshuffle.train.average import EVERY  # noqa: E402
from tinyshuffle.train.config import MUON_LR, load_data  # noqa: E402
from tinyshuffle.train.loop import SEEN  # noqa: E402
from tinyshuffle.train.verify import build_for  # noqa: E402
from tinyshuffle.train.whiten import whiten  # noqa: E402

SAME = {"stage_channels", "conv5_channels", "residual", "downsample"}
"""What PyTorch's side can be told of a variant."""


class Muon(torch.optim.Optimizer):
    """Of pointwise convolutions' weights (O, C, 1, 1), without groups: see tinyshuffle.optim."""

    def __init__(self, params: Any, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                x = p.grad.add(buffer, alpha=group["momentum"]).flatten(1)  # (O, C)
                o, c = x.shape
                x = x.T if o > c else x
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    outer = x @ x.T
                    x = 3.4445 * x + (-4.7750 * outer + 2.0315 * outer @ outer) @ x
                x = x.T if o > c else x
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(x.reshape(p.shape), alpha=group["lr"] * max(1, o / c) ** 0.5)


class Twin:
    """One run in PyTorch."""

    def __init__(self, config: Config, dtype: torch.dtype = torch.float32) -> None:
        if not config.model.startswith("shufflenet_v2_") or not config.variant.keys() <= SAME:
            raise ts.TinyshuffleError(
                f"{config.model} with {config.variant} was given: PyTorch's side is ShuffleNet V2 "
                f"with {', '.join(sorted(SAME))}"
            )
        if config.time_budget or config.init or config.early_stop:
            raise ts.TinyshuffleError("give a recipe with epochs, without init and early_stop")
        self.config, self.dtype = config, dtype
        self.train_set, self.test_set = load_data(config)
        side, classes = self.train_set.images.shape[1], len(self.train_set.classes)
        ours = build_for(config, side, classes)
        if config.whiten:
            whiten(ours, self.train_set)
        width = float(config.model.rpartition("_x")[2].replace("_", "."))
        net = ShuffleNetV2(width, classes, config.stem or "cifar", **config.variant)
        copy_weights(ours, net)
        # how the batches lie in memory, too: PyTorch need not turn them around
        self.net = net.to(dtype, memory_format=torch.channels_last)
        self.average = {k: v.clone() for k, v in net.state_dict().items()} if config.ema else {}
        self.per_epoch = max(1, len(self.train_set) // config.batch_size)
        self.total = config.epochs * self.per_epoch
        warmup = None if config.warmup is None else round(config.warmup * self.per_epoch)
        self.warmup = schedule.check(config.schedule, self.total, warmup)
        self.optimisers = self._optimisers()
        self.sizes = [config.size(e, config.epochs, side) for e in range(config.epochs)]
        self.steps = 0

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        """Each group of parameters knows its part of the learning rate."""
        config = self.config
        sets: dict[str, list[torch.Tensor]] = {"weights": [], "vectors": [], "bias": [], "muon": []}
        for name, p in self.net.named_parameters():
            pointwise = p.ndim == 4 and p.shape[2:] == (1, 1)
            kind = (
                "muon" if pointwise and config.optimizer == "muon"
                else "weights" if p.ndim > 1
                else "bias" if name.endswith("bias") and config.bias_lr is not None
                else "vectors"
            )  # fmt: skip
            sets[kind].append(p)
        groups: list[dict[str, Any]] = [
            {"params": sets["weights"], "part": 1.0},
            {"params": sets["vectors"], "part": 1.0, "weight_decay": 0.0},
            {"params": sets["bias"], "part": config.bias_lr, "weight_decay": 0.0},
        ]
        options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
        groups = [group for group in groups if group["params"]]
        if config.optimizer == "adam":
            return [torch.optim.Adam(groups, **options)]
        options["momentum"] = config.momentum
        found: list[torch.optim.Optimizer] = [
            torch.optim.SGD(groups, nesterov=config.momentum > 0, **options)
        ]
        if sets["muon"]:
            part = (config.muon_lr or MUON_LR) / config.lr
            found.append(Muon([{"params": sets["muon"], "part": part}], **options))
        return found

    def lr(self, step: int) -> float:
        return self.config.lr * schedule.factor(
            self.config.schedule, step, self.total, self.warmup
        )

    def batches(self, epoch: int) -> Any:
        config = self.config
        return ts.data.batches(
            self.train_set, config.batch_size, seed=config.seed, epoch=epoch,
            drop_last=len(self.train_set) >= config.batch_size, cutout=config.cutout,
            size=self.sizes[epoch], alternate=bool(config.alternate),
        )  # fmt: skip

    def tensor(self, x: np.ndarray) -> torch.Tensor:
        """(N, H, W, C) as PyTorch sees it, (N, C, H, W), without moving a number."""
        return torch.from_numpy(x).to(self.dtype).permute(0, 3, 1, 2)

    def step(self, x: np.ndarray, labels: np.ndarray, epoch: int, i: int) -> tuple[float, int]:
        """Take a step; return the loss and how many images were right."""
        config, rate = self.config, self.lr(self.steps)
        parts = [(1.0, labels)]
        if config.mixup:
            rng = np.random.default_rng([config.seed, epoch, 1 + i, 1])
            x, other, share = ts.data.mix(x, labels, config.mixup, rng)
            parts = [(share, labels), (1 - share, other.copy())]
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["part"] * rate
        logits = self.net(self.tensor(x))
        loss = torch.zeros((), dtype=self.dtype)
        for share, y in parts:
            loss = loss + share * cross_entropy(
                logits, torch.from_numpy(y), label_smoothing=config.label_smoothing
            )
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
        value = float(loss.detach())
        right = int((logits.detach().argmax(1) == torch.from_numpy(labels)).sum())
        self.steps += 1
        return value, right

    @torch.no_grad()
    def follow(self) -> None:
        """Let the average follow the weights after every fourth step."""
        step = self.steps - 1
        if not self.average or (step + 1) % EVERY:
            return
        share = 1 - min(self.config.ema, (1 + step) / (10 + step)) ** EVERY
        for name, value in self.net.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, share)
            else:
                self.average[name].copy_(value)

    @torch.no_grad()
    def test(self, epoch: int) -> tuple[float, float]:
        """Return loss and accuracy of the average, or of the weights; these go on as they were."""
        own = {name: value.clone() for name, value in self.net.state_dict().items()}
        if self.average:
            self.net.load_state_dict(self.average)
        norms = [m for m in self.net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        self.net.train()
        count = -(-SEEN // self.config.batch_size)
        for x, _ in itertools.islice(self.batches(epoch), count):
            self.net(self.tensor(x))
        self.net.eval()
        loss, right = 0.0, 0
        for x, labels in ts.data.batches(
            self.test_set, 500, augment=False, shuffle=False, size=self.sizes[epoch]
        ):
            logits, y = self.net(self.tensor(x)), torch.from_numpy(labels)
            smoothing = self.config.label_smoothing
            loss += float(cross_entropy(logits, y, label_smoothing=smoothing)) * len(y)
            right += int((logits.argmax(1) == y).sum())
        for norm in norms:
            norm.momentum = 0.1
        self.net.load_state_dict(own)
        self.net.train()
        return loss / len(self.test_set), right / len(self.test_set)

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.average = state["average"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.steps = state["steps"]


def train(config: Config, run: Path) -> list[dict[str, Any]]:
    """Train, or go on with what is there; return the rows of the log."""
    torch.set_num_threads(config.threads)
    twin, rows, before = Twin(config), list[dict[str, Any]](), 0.0
    run.mkdir(parents=True, exist_ok=True)
    if (run / "last.pt").exists():
        saved = torch.load(run / "last.pt", weights_only=True)
        if saved["config"] != config.to_dict():
            raise ts.TinyshuffleError(f"{run} was begun with another configuration: give a --name")
        twin.load(saved["twin"])
        rows, before = saved["rows"], saved["rows"][-1]["seconds"]
    write_json(run / "config.json", config.to_dict())
    machine(run, config.threads)
    twin.net.train()
    begun = time.perf_counter()  # as in tinyshuffle's loop, when images and net are there
    for epoch in range(len(rows), config.epochs):
        sums = dict.fromkeys(record.SUMS, 0.0)
        start = time.perf_counter()
        for i, (x, labels) in enumerate(itertools.islice(twin.batches(epoch), twin.per_epoch)):
            bare = time.perf_counter()
            loss, right = twin.step(x, labels, epoch, i)
            sums["step_seconds"] += time.perf_counter() - bare
            twin.follow()
            sums["loss"] += loss * len(labels)
            sums["right"] += right
            sums["images"] += len(labels)
        sums["seconds"] = time.perf_counter() - start
        due = (epoch + 1) % config.test_interval == 0 or epoch + 1 == config.epochs
        test_loss, test_accuracy = twin.test(epoch) if due else (None, None)
        values = (
            epoch + 1, twin.steps, twin.sizes[epoch], twin.lr(twin.steps - 1),
            sums["loss"] / sums["images"], sums["right"] / sums["images"], test_loss,
            test_accuracy, sums["images"] / sums["seconds"], sums["step_seconds"],
            before + time.perf_counter() - begun,
        )  # fmt: skip
        rows.append(dict(zip(record.COLUMNS, values, strict=True)))
        record.write_log(run, rows)
        with atomic_write(run / "last.pt") as file:
            torch.save({"config": config.to_dict(), "twin": twin.state(), "rows": rows}, file)
        test = "" if test_accuracy is None else f"test accuracy {100 * test_accuracy:.2f} %  "
        print(f"epoch {epoch + 1}/{config.epochs}  {test}{rows[-1]['seconds']:.0f} s", flush=True)
    return rows


def machine(run: Path, threads: int) -> None:
    """Write machine.json, the newest last, with PyTorch's version."""
    record.write_machine(run, threads)
    machines = json.loads((run / "machine.json").read_text(encoding="utf-8"))
    machines[-1]["torch"] = torch.__version__
    if machines[-1] in machines[-2:-1]:  # which had the version already
        del machines[-1]
    write_json(run / "machine.json", machines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's, to fill its minutes")
    parser.add_argument("--validate", type=int, help="hold out so many training images")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--name", required=True)
    parser.add_argument("--runs-dir", default="runs")
    given = vars(parser.parse_args())
    recipe, run = given.pop("recipe"), Path(given.pop("runs_dir")) / given.pop("name")
    try:
        fields = {name: value for name, value in given.items() if value is not None}
        train(Config.make(recipe, **fields), run)
    except ts.TinyshuffleError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
