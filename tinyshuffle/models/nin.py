"""Network in Network: Lin, Chen, Yan, 2013, arXiv 1312.4400.

The first net with 1x1 convolutions ("cascaded cross channel parametric pooling", cccp) and with
an average over the last map in place of linear layers: half of what ShuffleNet is made of. The
paper's own experiments are on small images. Its net for ImageNet, which V1's peers were compared
with, was published by its authors in Caffe's model zoo; that one is "imagenet" here.

Parameters have the names that Caffe's files give the layers.
"""

from __future__ import annotations

from .. import nn
from .arguments import check_stem

__all__ = ["NetworkInNetwork"]

# For each of the blocks: kernel, stride, padding of its first convolution, its output channels and
# those of the 1x1 convolutions behind it. None stands for the number of classes. Between two
# blocks there are a pool and a dropout.
BLOCKS = {
    "imagenet": (
        (11, 4, 0, (96, 96, 96)),
        (5, 1, 2, (256, 256, 256)),
        (3, 1, 1, (384, 384, 384)),
        (3, 1, 1, (1024, 1024, None)),
    ),
    "cifar": (
        (5, 1, 2, (192, 160, 96)),
        (5, 1, 2, (192, 192, 192)),
        (3, 1, 1, (192, 192, None)),
    ),
}
# Caffe's pools round up. The net for ImageNet drops out only once, in front of its last block.
DROPOUT_IN_FRONT_OF = {"imagenet": (4,), "cifar": (2, 3)}


class NetworkInNetwork(nn.Sequential):
    """Network in Network.

    Parameters
    ----------
    num_classes : int
    stem : {"imagenet", "cifar"}
        The authors' net for 224x224 images, or the paper's for CIFAR.
    """

    def __init__(self, num_classes: int = 1000, stem: str = "imagenet") -> None:
        layers: dict[str, nn.Module] = {}
        channels, cccp = 3, 0
        for number, (kernel, stride, padding, widths) in enumerate(BLOCKS[check_stem(stem)], 1):
            if number > 1:
                layers[f"pool{number - 1}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            if number in DROPOUT_IN_FRONT_OF[stem]:
                layers[f"drop{number - 1}"] = nn.Dropout(0.5)
            for i, width in enumerate(widths):
                out = num_classes if width is None else width
                if i == 0:
                    name, conv = f"conv{number}", nn.Conv2d(channels, out, kernel, stride, padding)
                else:
                    cccp += 1
                    name, conv = f"cccp{cccp}", nn.Conv2d(channels, out, 1)
                layers |= {name: conv, f"relu_{name}": nn.ReLU()}
                channels = out
        super().__init__(**layers, globalpool=nn.GlobalAvgPool())
        # Caffe's N(0, 0.01²) and N(0, 0.05²) were found by trying; this keeps the scale by itself.
        nn.init.kaiming_normal(self, "fan_in")
