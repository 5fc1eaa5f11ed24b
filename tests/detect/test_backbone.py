"""Nets of the zoo without their heads."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError, models
from tinyshuffle.detect.backbone import backbone, map_of

ONE_OF_EACH = (
    "shufflenet_v1_x0_25_g3", "shufflenet_v2_x0_5", "shufflenet_v2_star_x0_5", "shufflenet_v2_50",
    "resnet_like_13m", "xception_like_13m", "mobilenet_v1_x0_25", "mobilenet_v2_x0_15", "alexnet",
    "nin", "vgg11", "googlenet", "resnet18", "resnet20", "squeezenet1_1", "densenet121", "xception",
    "igcv3", "condensenet74_g4", "nasnet_a_mobile",
)  # fmt: skip


@pytest.mark.parametrize("model", ONE_OF_EACH)
def test_every_net_ends_in_a_map(model):
    net = backbone(model)
    (h, w, channels), stride = map_of(net, 128)
    assert h == w and channels > 8 and abs(128 / h - stride) < stride / 4
    whole = models.create(model, num_classes=1, stem="cifar")
    kept = {p.name for p in net.parameters()}
    lost = {p.name for p in whole.parameters()} - kept
    assert kept < {p.name for p in whole.parameters()}
    assert len(lost) <= 6, lost


def test_auxiliary_classifiers_are_refused():
    with pytest.raises(TinyshuffleError, match="a detector has no auxiliary classifiers"):
        backbone("googlenet", aux_logits=True)


def test_it_is_the_net_itself(rng):
    """The map of the net's own layers, with its own weights."""
    net = backbone("shufflenet_v2_x0_5", seed=3).eval()
    whole = models.create("shufflenet_v2_x0_5", num_classes=10, stem="cifar").net.eval()
    whole.load_state_dict({**whole.state_dict(), **net.state_dict()})
    x = rng.standard_normal((1, 32, 32, 3)).astype(np.float32)
    y = whole.conv1(x)
    for stage in whole.stage2, whole.stage3, whole.stage4:
        y = stage(y)
    np.testing.assert_array_equal(net(x), y)
    assert map_of(net, 32) == ((4, 4, 192), 8)


@pytest.mark.parametrize(
    ("model", "channels"), [("mobilenet_v2_x0_5", 160), ("igcv3", 320), ("shufflenet_v2_x0_5", 192)]
)
def test_what_only_widens_the_map_for_the_classifier_is_left_out(model, channels):
    assert map_of(backbone(model), 64)[0][2] == channels


def test_a_variant_of_the_net():
    net = backbone("mobilenet_v1_x0_25", last_stride=1)
    assert map_of(net, 64) == ((8, 8, 256), 8)
    star = backbone("shufflenet_v2_star_x0_5", stage_channels=[16, 32, 48])
    assert map_of(star, 64) == ((8, 8, 48), 8)
    with pytest.raises(TinyshuffleError, match="last_stride=3"):
        backbone("mobilenet_v1_x0_25", last_stride=3)


def test_sides_that_a_stride_does_not_divide():
    (h, _, _), stride = map_of(backbone("shufflenet_v2_x0_5"), 100)
    assert (h, stride) == (13, 8)


def test_what_cannot_be_is_one_sentence():
    with pytest.raises(TinyshuffleError, match="unknown model"):
        backbone("shufflenet")
    with pytest.raises(TinyshuffleError, match="larger pictures"):
        map_of(backbone("shufflenet_v2_x0_5", "imagenet"), 32)


def test_a_narrow_net_is_not_taken_for_its_classes():
    """One channel of a unit is not the one class: detect compare solves for widths from 2 on."""
    net = backbone("shufflenet_v2_x0_5", stage_channels=[2, 4, 8])
    assert map_of(net, 32)[0] == (4, 4, 8)
