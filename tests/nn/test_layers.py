"""What layers are made with: numbers of NumPy's, and those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError, nn

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Conv2d(0, 4, 3), "in_channels=0"),
        (lambda: nn.Conv2d(4, -4, 3), "out_channels=-4"),
        (lambda: nn.Conv2d(4.0, 4, 3), "in_channels=4.0"),
        (lambda: nn.Conv2d(True, 4, 3), "in_channels=True"),
        (lambda: nn.Conv2d(4, 4, 0), "kernel_size=0"),
        (lambda: nn.Conv2d(4, 4, 2.5), "kernel_size=2.5"),
        (lambda: nn.Conv2d(4, 4, "3"), "kernel_size='3'"),
        (lambda: nn.Conv2d(4, 4, True), "kernel_size=True"),
        (lambda: nn.Conv2d(4, 4, (3, 3, 3)), r"kernel_size=\(3, 3, 3\)"),
        (lambda: nn.Conv2d(4, 4, 3, stride=0), "stride=0"),
        (lambda: nn.Conv2d(4, 4, 3, padding=-1), "padding=-1"),
        (lambda: nn.Conv2d(4, 4, 3, padding="same"), "padding='same'"),
        (lambda: nn.Conv2d(4, 4, 3, dilation=0), "dilation=0"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), "groups=0"),
        (lambda: nn.Conv2d(4, 4, 3, groups=2.0), "groups=2.0"),
        (lambda: nn.MaxPool2d(0), "kernel_size=0"),
        (lambda: nn.MaxPool2d(2, 0), "stride=0"),
        (lambda: nn.MaxPool2d(2, padding=-1), "padding=-1"),
        (lambda: nn.MaxPool2d(3, padding=2), "more than half"),
        (lambda: nn.AvgPool2d((3, 1), padding=1), "more than half"),
        (lambda: nn.AvgPool2d(3.0), "kernel_size=3.0"),
        (lambda: nn.AdaptiveAvgPool2d(0), "output_size=0"),
        (lambda: nn.AdaptiveAvgPool2d((2, 2.0)), r"output_size=\(2, 2.0\)"),
        (lambda: nn.Linear(0, 3), "in_features=0"),
        (lambda: nn.Linear(3, "4"), "out_features='4'"),
        (lambda: nn.BatchNorm2d(0), "num_features=0"),
        (lambda: nn.BatchNorm2d(4.0), "num_features=4.0"),
        (lambda: nn.BatchNorm2d(4, eps=-1e-5), "eps=-1e-05"),
        (lambda: nn.BatchNorm2d(4, eps=NAN), "eps=nan"),
        (lambda: nn.BatchNorm2d(4, momentum=1.5), "momentum=1.5"),
        (lambda: nn.BatchNorm2d(4, momentum="0.1"), "momentum='0.1'"),
        (lambda: nn.Dropout(-0.1), "dropout p=-0.1"),
        (lambda: nn.Dropout(1.0), "dropout p=1.0"),
        (lambda: nn.Dropout(NAN), "dropout p=nan"),
        (lambda: nn.Dropout("0.5"), "dropout p='0.5'"),
        (lambda: nn.LocalResponseNorm(0), "size=0"),
        (lambda: nn.LocalResponseNorm(2.5), "size=2.5"),
        (lambda: nn.LocalResponseNorm(5, alpha=INF), "alpha=inf"),
        (lambda: nn.LocalResponseNorm(5, beta=None), "beta=None"),
        (lambda: nn.ChannelShuffle(0), "groups=0"),
        (lambda: nn.ChannelShuffle("2"), "groups='2'"),
        (lambda: nn.SqueezeExcitation(8, 0), "reduction=0"),
        (lambda: nn.SqueezeExcitation(8.0), "channels=8.0"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=NAN), "label_smoothing=nan"),
        (lambda: nn.CrossEntropyLoss(label_smoothing="0.1"), "label_smoothing='0.1'"),
    ],
)
def test_layers_that_cannot_be_are_refused_when_they_are_made(make, words):
    with pytest.raises(TinyshuffleError, match=words):
        make()


@pytest.mark.parametrize("integer", [np.int64, np.uint8, np.int32])
def test_integers_of_numpy_make_the_same_layers(each_backend, integer, rng):
    x = rng.standard_normal((2, 9, 9, 4)).astype(np.float32)
    one, two, three, four = (integer(n) for n in (1, 2, 3, 4))
    for mine, right in (
        (nn.Conv2d(four, four, three, two, one, one, two), nn.Conv2d(4, 4, 3, 2, 1, 1, 2)),
        (nn.Conv2d(four, four, (three, 3), one, one, one, four), nn.Conv2d(4, 4, 3, 1, 1, 1, 4)),
        (nn.MaxPool2d(three, two, one), nn.MaxPool2d(3, 2, 1)),
        (nn.AvgPool2d(three, [two, 2], one), nn.AvgPool2d(3, 2, 1)),
        (nn.AdaptiveAvgPool2d(three), nn.AdaptiveAvgPool2d(3)),
        (nn.BatchNorm2d(four, np.float32(1e-5), np.float32(0.1)), nn.BatchNorm2d(4)),
        (nn.ChannelShuffle(two), nn.ChannelShuffle(2)),
        (nn.LocalResponseNorm(three), nn.LocalResponseNorm(3)),
        (nn.Sequential(nn.GlobalAvgPool(), nn.Linear(four, two)),
         nn.Sequential(nn.GlobalAvgPool(), nn.Linear(4, 2))),
    ):  # fmt: skip
        assert repr(mine) == repr(right)
        mine.initialise(3), right.initialise(3)
        y = right(x)
        np.testing.assert_allclose(mine(x), y, rtol=1e-6)
        np.testing.assert_allclose(mine.backward(y), right.backward(y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "complex128"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU6(), nn.Sigmoid(),
        nn.MaxPool2d(2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2), nn.GlobalAvgPool(),
        nn.AdaptiveAvgPool2d(2), nn.Dropout(0.5), nn.Dropout(0.5).eval(), nn.LocalResponseNorm(3),
        nn.Residual(nn.Dropout(0.0), nn.ReLU()), nn.SqueezeExcitation(4, 2),
    ],
    ids=repr,
)  # fmt: skip
def test_layers_of_real_numbers_take_no_others(each_backend, layer, dtype):
    with pytest.raises(TinyshuffleError, match="float32"):
        layer(np.ones((2, 4, 4, 4), dtype))


def test_labels_may_be_overwritten_before_the_backward_pass():
    logits, labels = np.array([[0.0, 1.0, 2.0]]), np.array([1])
    loss = nn.CrossEntropyLoss()
    loss(logits, labels)
    right = loss.backward()
    loss(logits, labels)
    labels[:] = 2
    np.testing.assert_array_equal(loss.backward(), right)


# ---- arrays that mean more than their numbers, and statistics that are none

LAYERS = [
    nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4),
    nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.ChannelShuffle(2), nn.MaxPool2d(2),
    nn.AvgPool2d(2), nn.GlobalAvgPool(), nn.AdaptiveAvgPool2d(2), nn.Dropout(0.5), nn.Flatten(),
    nn.LocalResponseNorm(3), nn.SqueezeExcitation(4, 2),
    nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
]  # fmt: skip


def special(a):
    """Arrays that are something else than what they hold."""
    yield np.ma.array(a, mask=a > 0), r"masked array.*x\.filled"
    yield np.asmatrix(a.reshape(len(a), -1)), r"matrix|expects images|of shape"


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_masks_are_not_dropped_without_a_word(each_backend, rng, layer):
    x = rng.standard_normal((2, 6, 6, 4)).astype(np.float32)
    for other, words in special(x):
        with pytest.raises(TinyshuffleError, match=words):
            layer(other)
    y = layer(x)
    for other, words in special(rng.standard_normal(y.shape).astype(np.float32)):
        if y.ndim == 4 or "matrix" not in words:
            layer(x)
            with pytest.raises(TinyshuffleError, match=words):
                layer.backward(other)


def test_masked_rows_and_labels_are_refused(each_backend):
    x = np.ma.array(np.ones((3, 4), np.float32), mask=np.eye(3, 4))
    labels = np.ma.array([0, 1, 2], mask=[0, 1, 0])
    layer, loss = nn.Linear(4, 4), nn.CrossEntropyLoss()
    for call in (
        lambda: layer(x),
        lambda: (layer(x.data), layer.backward(x)),
        lambda: loss(x, labels.data),
        lambda: loss(x.data, labels),
    ):
        with pytest.raises(TinyshuffleError, match="masked array"):
            call()


def test_arrays_in_files_are_arrays(each_backend, rng, tmp_path):
    x = rng.standard_normal((2, 6, 6, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for layer in LAYERS:
        layer.eval()
        np.testing.assert_array_equal(layer(mapped), layer(x))
        layer.train()


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize(
    "bad",
    [None, 0.0, "x", [0.0] * 4, np.zeros(3, "f4"), np.zeros((1, 4), "f4"), np.zeros(4, int),
     np.ma.zeros(4)],
    ids=repr,
)  # fmt: skip
def test_running_statistics_have_to_be_statistics(name, bad):
    norm = nn.BatchNorm2d(4)
    before = getattr(norm, name)
    with pytest.raises(TinyshuffleError, match=rf"^{name} of BatchNorm2d\(4\) has to be an array"):
        setattr(norm, name, bad)
    assert getattr(norm, name) is before


def test_the_count_of_batches_is_a_whole_number():
    norm = nn.BatchNorm2d(4)
    for bad in (None, -1, 0.5, "x", np.zeros(2, int)):
        with pytest.raises(TinyshuffleError, match="num_batches_tracked="):
            norm.num_batches_tracked = bad
    norm.num_batches_tracked = 7
    assert norm.state_dict()["num_batches_tracked"] == 7


def test_a_layer_that_stands_in_two_places_is_named_as_the_cause(rng):
    relu, linear = nn.ReLU(), nn.Linear(4, 4)
    x = rng.standard_normal((2, 4)).astype(np.float32)
    for twice, net in (
        ("ReLU", nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu)),
        ("Linear", nn.Sequential(linear, nn.ReLU(), linear)),
    ):
        y = net(x)
        with pytest.raises(TinyshuffleError, match=f"in several places.* a {twice} of its own"):
            net.backward(y)
