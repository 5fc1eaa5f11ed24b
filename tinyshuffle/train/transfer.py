"""Transfer: begin with weights that something else has learned, and hold some of them still.

A layer that is held is not learned, and if it is a batch norm, it normalises with the statistics
that it came with and keeps them: those of few new images would be noise, and the layers behind it
have learned to live with the old ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..nn import BatchNorm2d, Conv2d, Linear, Module
from ..weights.files import State, read_state
from ..weights.load import AUXILIARY, head_of, heads_of, load_state
from .verify import best_checkpoint

__all__ = ["begin_with", "held", "hold"]


def begin_with(net: Module, init: str | os.PathLike[str], classes: Iterable[str]) -> str:
    """Give a net the weights of a run or a file; return what was done, for its reader.

    The last layer, and that of each auxiliary classifier, begins anew if the weights are for
    another number of classes, or the run was of other classes.
    """
    path = Path(init)
    if not path.is_dir():
        dropped = load_state(net, read_state(path), str(path), "drop")
    else:
        saved, _ = best_checkpoint(path)
        state = State(dict(saved.best))
        dropped = []
        if list(saved.header["data"]["classes"]) != list(classes):
            dropped = heads_of(net)
            names = [f"{layer}.{what}" for layer in dropped for what in ("weight", "bias")]
            state.arrays.update({p.name: p.data for p in net.parameters() if p.name in names})
        load_state(net, state, str(path))
    if dropped:
        made = "is" if len(dropped) == 1 else "are"
        return f"begins with {path}, but for {', '.join(dropped)}, which {made} for other classes"
    return f"begins with {path}, the last layer too"


def held(net: Module, freeze: str) -> frozenset[str]:
    """Return the layers that are held still, by name.

    Parameters
    ----------
    net : Module
    freeze : {"stem", "stages", "all-but-head"}
        The first convolution and its batch norm; all but the last convolution, its batch norm and
        the last layer; or all but the last layer. Auxiliary classifiers are held with the stages,
        which alone they are there for.
    """
    layers = [
        (path, module)
        for path, module in net.named_modules()
        if isinstance(module, Conv2d | Linear | BatchNorm2d)
    ]
    head = head_of(net)
    auxiliary = [path for path, _ in layers if path.startswith(AUXILIARY)]
    body = [(path, module) for path, module in layers if path not in (head, *auxiliary)]
    convolutions = [i for i, (_, module) in enumerate(body) if not isinstance(module, BatchNorm2d)]
    ends = {
        "stem": convolutions[1] if len(convolutions) > 1 else len(body),
        "stages": convolutions[-1],
        "all-but-head": len(body),
    }
    names = [path for path, _ in body[: ends[freeze]]]
    return frozenset(names if freeze == "stem" else names + auxiliary)


def hold(net: Module, names: frozenset[str]) -> None:
    """Let the batch norms of these names normalise as in evaluation."""
    for path, module in net.named_modules():
        if path in names and isinstance(module, BatchNorm2d):
            module.training = False
