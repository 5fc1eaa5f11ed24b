"""tinyshuffle: ShuffleNet V1 and V2 from scratch, every gradient by hand.

>>> import numpy as np
>>> import tinyshuffle as ts
>>> net = ts.models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar", seed=0)
>>> images, labels = np.zeros((4, 32, 32, 3), np.float32), np.array([3, 1, 4, 1])
>>> loss = ts.nn.CrossEntropyLoss()
>>> value = loss(net(images), labels)
>>> dx = net.backward(loss.backward())
>>> dx.shape
(4, 32, 32, 3)
"""

from . import compress, cost, course, data, models, nn, onnx, optim, weights
from .backend import backend
from .errors import TinyshuffleError
from .gradcheck import gradcheck
from .parallel import DataParallel, get_num_threads, set_num_threads
from .plan import validate
from .train import load_run as load

__version__ = "0.1.0"

__all__ = [
    "DataParallel", "TinyshuffleError", "backend", "compress", "cost", "course", "data",
    "get_num_threads", "gradcheck", "load", "models", "nn", "onnx", "optim", "set_num_threads",
    "validate", "weights",
]  # fmt: skip
