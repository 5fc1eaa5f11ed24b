"""Begin with a backbone that something else has trained, such as ``train`` on shapes."""

from __future__ import annotations

from pathlib import Path

from ..errors import TinyshuffleError
from ..train.verify import best_checkpoint
from ..weights.files import read_state
from .detector import Body, Detector

__all__ = ["begin_with"]


def begin_with(net: Detector, init: str) -> str:
    """Give the backbone the weights of a run or a file; return what was done, for its reader.

    Raises
    ------
    TinyshuffleError
        If those are another net's.
    """
    path = Path(init)
    arrays = best_checkpoint(path)[0].best if path.is_dir() else read_state(path).arrays
    body = net.body.net
    assert isinstance(body, Body)
    trunk = body.backbone
    mine = trunk.state_dict()
    wrong = [
        name
        for name, value in mine.items()
        if name not in arrays or tuple(arrays[name].shape) != tuple(value.shape)
    ]
    if wrong:
        raise TinyshuffleError(
            f"{path} has no weights for this backbone ({len(wrong)} of {len(mine)} are missing or "
            f"of another shape, such as {wrong[0]}): give those of the same model and stem"
        )
    trunk.load_state_dict({name: arrays[name] for name in mine})
    return f"the backbone begins with {path}"
