"""Begin with a backbone that something else has trained, such as ``train`` on shapes."""

from __future__ import annotations

from pathlib import Path

from .. import models
from ..errors import TinyshuffleError
from ..train.verify import best_checkpoint
from ..weights.files import read_state
from .config import DetectConfig
from .detector import Body, Detector

__all__ = ["begin_with"]


def begin_with(net: Detector, config: DetectConfig) -> str:
    """Give the backbone the weights of ``config.init``; return what was done, for its reader.

    Raises
    ------
    TinyshuffleError
        If those are another net's.
    """
    assert config.init is not None
    path = Path(config.init)
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
    # a deeper net of the same kind has all of these, and more of the same parts
    whole = models.create(config.model, num_classes=1, stem=config.stem, **config.variant).net
    parts, known = {name.split(".")[0] for name in mine}, whole.state_dict()
    more = [n for n in arrays if n.split(".")[0] in parts and n not in known]
    if more:
        raise TinyshuffleError(
            f"{path} has weights that {config.model} has not, such as {more[0]}: give those of the "
            "same model"
        )
    trunk.load_state_dict({name: arrays[name] for name in mine})
    return f"the backbone begins with {path}"
