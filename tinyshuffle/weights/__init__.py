"""Weights from and for other libraries: PyTorch's files, safetensors, NumPy's.

>>> import tempfile, pathlib
>>> from tinyshuffle import models
>>> net = models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar")
>>> with tempfile.TemporaryDirectory() as folder:
...     write(net, pathlib.Path(folder, "net.npz"), layout="pytorch")
...     state = read(pathlib.Path(folder, "net.npz"))
>>> state["conv1.0.weight"].shape
(3, 3, 3, 24)
"""

from .files import read, write
from .load import load
from .pretrained import Pretrained, pretrained
from .published import download

__all__ = ["Pretrained", "download", "load", "pretrained", "read", "write"]
