"""The nets: their names, sizes, variants and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tinyshuffle as ts
from tinyshuffle import TinyshuffleError, models
from tinyshuffle.models.shufflenet_v1 import stage_widths, stem_width


def parameters(name: str, **variant) -> int:
    return sum(int(np.prod(p.shape)) for p in models.create(name, **variant).parameters())


@pytest.mark.parametrize(
    ("name", "published"),
    [  # torchvision's metadata
        ("shufflenet_v2_x0_5", 1_366_792),
        ("shufflenet_v2_x1_0", 2_278_604),
        ("shufflenet_v2_x1_5", 3_503_624),
        ("shufflenet_v2_x2_0", 7_393_996),
        # osmr/imgclsmob, reimplementations of V1 Table 1
        ("shufflenet_v1_x1_0_g1", 1_531_936),
        ("shufflenet_v1_x1_0_g2", 1_733_848),
        ("shufflenet_v1_x1_0_g3", 1_865_728),
        ("shufflenet_v1_x1_0_g4", 1_968_344),
        ("shufflenet_v1_x1_0_g8", 2_434_768),
        ("shufflenet_v1_x0_5_g1", 534_484),
        ("shufflenet_v1_x0_5_g3", 718_324),
    ],
)
def test_parameter_counts(name, published):
    assert parameters(name) == published


@pytest.mark.parametrize(
    ("name", "published"),
    [  # the authors' code, whose classifier has no bias
        ("shufflenet_v1_x0_5_g3", 717_324),
        ("shufflenet_v1_x1_0_g3", 1_864_728),
        ("shufflenet_v1_x1_5_g3", 3_441_168),
        ("shufflenet_v1_x2_0_g3", 5_449_776),
        ("shufflenet_v1_x0_5_g8", 1_010_448),
        ("shufflenet_v1_x1_0_g8", 2_433_768),
        ("shufflenet_v1_x1_5_g8", 4_268_952),
        ("shufflenet_v1_x2_0_g8", 6_521_232),
    ],
)
def test_parameter_counts_of_the_authors_v1(name, published):
    assert parameters(name, fc_bias=False) == published


@pytest.mark.parametrize(
    ("width", "published"), [("0_5", 1_365_792), ("1_0", 2_278_760), ("2_0", 7_402_600)]
)
def test_parameter_counts_of_the_authors_v2(width, published):
    name = f"shufflenet_v2_x{width}"
    assert parameters(name, downsample="paper", fc_bias=False) == published


def test_widths_follow_table_1_and_divide_by_the_groups():
    table_1 = {1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960), 4: (272, 544, 1088),
               8: (384, 768, 1536)}  # fmt: skip
    for g, widths in table_1.items():
        assert stage_widths(1.0, g) == widths
        for s in (0.25, 0.5, 1.0, 1.5, 2.0):
            assert stem_width(s, g) % g == 0
            for c, exact in zip(stage_widths(s, g), widths, strict=True):
                assert c % (4 * g) == 0
                assert s * exact <= c < s * exact + 4 * g


@pytest.mark.parametrize("name", models.list_models("shufflenet_v[12]_x*"))
def test_every_net_takes_a_step(name, rng):
    net = models.create(name, num_classes=7, stem="cifar")
    loss = ts.nn.CrossEntropyLoss()
    x = rng.standard_normal((4, 16, 16, 3)).astype(np.float32)
    labels = np.array([0, 6, 3, 3])
    first = loss(net(x), labels)
    assert net.backward(loss.backward()).shape == x.shape
    grads = [p.grad for p in net.parameters()]
    assert all(np.isfinite(g).all() for g in grads)
    # a step along the gradient that should lower the loss by a hundredth
    length = 0.01 / sum(float((g.astype(np.float64) ** 2).sum()) for g in grads)
    for p in net.parameters():
        p.data -= length * p.grad
    assert first - loss(net(x), labels) == pytest.approx(0.01, rel=0.5)
    net.eval()
    assert net(x).shape == (4, 7)


@pytest.mark.parametrize("name", ["shufflenet_v1_x0_25_g8", "shufflenet_v2_x0_5"])
def test_the_imagenet_stem_makes_images_32_times_smaller(name, rng):
    net = models.create(name, num_classes=3)
    x = rng.standard_normal((1, 65, 96, 3)).astype(np.float32)
    shapes = []
    pool = net.globalpool
    forward = pool.forward
    pool.forward = lambda y: (shapes.append(y.shape), forward(y))[1]
    net.eval()
    assert net(x).shape == (1, 3)
    assert shapes[0][1:3] == (3, 3)


UNITS = [
    *[
        (models.ShuffleUnitV1, (c, o, g, s), {"shuffle": shuffle, "se": se}, c)
        for g in (1, 3, 8)
        for c, o, s in ((4 * g, 4 * g, 1), (4 * g, 12 * g, 2))
        for shuffle, se in ((True, False), (False, True))
    ],
    (models.ShuffleUnitV1, (9, 36, 3, 2), {"first_groups": 1}, 9),
    *[
        (models.ShuffleUnitV2, (c, o, s), {"downsample": d, "se": se, "residual": r}, c)
        for c, o, s in ((16, 16, 1), (6, 16, 1), (6, 16, 2))
        for d, se, r in (("torchvision", False, False), ("paper", True, False),
                         ("torchvision", True, True), ("torchvision", False, True))
    ],
]  # fmt: skip


@pytest.mark.parametrize(("unit", "arguments", "variant", "c"), UNITS)
@pytest.mark.parametrize("size", [(5, 6), (4, 3)])
def test_units_pass_the_gradient_check(each_backend, unit, arguments, variant, c, size):
    module = unit(*arguments, **variant).initialise(1).astype("float64")
    x = np.random.default_rng(2).standard_normal((3, *size, c))
    report = ts.gradcheck(module, x)
    assert report.passed, report
    assert report.max_relative_error <= 1e-6


def test_shuffle_off_is_another_net_with_the_same_weights(rng):
    on = models.create("shufflenet_v1_x0_25_g3", 10, "cifar")
    off = models.create("shufflenet_v1_x0_25_g3", 10, "cifar", shuffle=False)
    off.load_state_dict(on.state_dict())
    x = rng.standard_normal((2, 8, 8, 3)).astype(np.float32)
    assert not np.allclose(on(x), off(x), atol=1e-3)


def test_unknown_names_and_variants():
    with pytest.raises(TinyshuffleError, match="did you mean .*shufflenet_v2_x1_0"):
        models.create("shufflenet_v2_1.0")
    with pytest.raises(TinyshuffleError, match="it takes .*shuffle"):
        models.create("shufflenet_v1_x1_0_g3", shufle=False)
    with pytest.raises(TinyshuffleError, match="use 'imagenet' or 'cifar'"):
        models.create("shufflenet_v2_x0_5", stem="mnist")
    with pytest.raises(TinyshuffleError, match="use 'torchvision' or 'paper'"):
        models.create("shufflenet_v2_x0_5", downsample="megvii")
    with pytest.raises(TinyshuffleError, match="24 channels has none left for its main branch"):
        models.create("shufflenet_v2_x0_5", downsample="paper", stage_channels=[24, 48, 96])
    for name, multiple in (("shufflenet_v2_x0_5", 2), ("shufflenet_v1_x0_5_g3", 12),
                           ("resnet_like_13m", 4)):  # fmt: skip
        for stages in (64, [64, 128], [63, 128, 256], ["64", 128, 256], [0, 2, 4], [True, 2, 4]):
            with pytest.raises(TinyshuffleError, match=f"give three multiples of {multiple}"):
                models.create(name, stage_channels=stages)
    for width in (0, "384", True):
        for name, of in (("shufflenet_v2_x0_5", "conv5_channels"),
                         ("shufflenet_v1_x0_5_g3", "stem_channels"),
                         ("resnet_like_13m", "stem_channels")):  # fmt: skip
            with pytest.raises(TinyshuffleError, match=f"{of}=.*: give a whole number above 0"):
                models.create(name, **{of: width})
    with pytest.raises(TinyshuffleError, match="widths are"):
        models.ShuffleNetV1(width=0.75)
    with pytest.raises(TinyshuffleError, match="the shallow net"):
        models.ShuffleNetV1(shallow=True)


@pytest.mark.parametrize("name", ["shufflenet_v1_x0_25_g2", "shufflenet_v2_x0_5"])
def test_stages_of_other_depths(name):
    net = models.create(name, num_classes=10, stem="cifar", stage_repeats=[1, 3, 2])
    assert [len(stage) for stage in (net.stage2, net.stage3, net.stage4)] == [1, 3, 2]
    assert net.eval()(np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 10)
    for wrong in ([1, 2], [0, 1, 1], "121", [1, 1, 10**9], [1.0, 1, 1]):
        with pytest.raises(TinyshuffleError, match="give three whole numbers from 1 to 1000"):
            models.create(name, num_classes=10, stem="cifar", stage_repeats=wrong)


def test_stages_that_begin_with_other_strides():
    net = models.create("shufflenet_v2_x0_5", 10, "cifar", stage_strides=[1, 2, 1]).eval()
    shapes = [(1, 32, 32, 3)]
    for stage in (net.conv1, net.stage2, net.stage3, net.stage4):
        shapes.append(stage(np.zeros(shapes[-1], np.float32)).shape)
    assert shapes[1:] == [(1, 32, 32, 24), (1, 32, 32, 48), (1, 16, 16, 96), (1, 16, 16, 192)]
    plain, other = (
        models.create("shufflenet_v2_x0_5", 10, "cifar", stage_strides=strides)
        for strides in (None, (2, 2, 2))
    )
    x = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    assert (plain(x) == other(x)).all()
    for wrong in ([1, 2], [0, 1, 1], [1, 2, 3], "122", 2, [1.0, 2, 2]):
        with pytest.raises(TinyshuffleError, match="give three whole numbers from 1 to 2"):
            models.create("shufflenet_v2_x0_5", 10, "cifar", stage_strides=wrong)


def taking(argument):
    """The models that take an argument."""
    found = []
    for name in models.list_models():
        with pytest.raises(TinyshuffleError, match="it takes") as error:
            models.create(name, unknown=1)
        if f" {argument}," in f"{str(error.value).partition('it takes')[2]},":
            found.append(name)
    return found


@pytest.mark.parametrize("argument, least", [("groups", 5), ("width_per_group", 5), ("width", 10)])
def test_factors_and_groups_that_cannot_be(argument, least):
    names = taking(argument)
    assert len(names) >= least
    for name in names:
        for value in (-3, 0, "abc", None, True, float("nan"), 10**20, [2]):
            with pytest.raises(TinyshuffleError, match=argument):
                models.create(name, num_classes=10, stem="cifar", **{argument: value})


def test_classes_seeds_and_stems_that_cannot_be():
    for given in (
        {"num_classes": 0}, {"num_classes": "10"}, {"num_classes": 10**12}, {"seed": -1},
        {"seed": "0"}, {"stem": 5}, {"name": 3},
    ):  # fmt: skip
        with pytest.raises(TinyshuffleError):
            models.create(**{"name": "shufflenet_v2_x0_5", **given})
    net = models.create("shufflenet_v2_x0_5", num_classes=np.int64(3), seed=np.int64(1))
    assert net.fc.weight.shape == (1024, 3)


@pytest.mark.parametrize("word", ["False", "no", "0", "true"])
def test_a_word_is_no_bool(word):
    """In Python: the bool itself can be given. The command line and recipes read the word."""
    with pytest.raises(TinyshuffleError, match=f"shuffle='{word}' was given: it must be true or"):
        models.create("shufflenet_v1_x0_25_g3", shuffle=word)
    with pytest.raises(TinyshuffleError, match="batch_norm="):
        models.create("vgg11_bn", batch_norm=word)
    net = models.create("shufflenet_v1_x0_25_g3", shuffle=np.bool_(False))
    assert not any(isinstance(layer, ts.nn.ChannelShuffle) for layer in net.modules())


def test_widths_of_numpy_are_widths():
    net = models.create("shufflenet_v2_x0_5", stage_channels=[np.int64(c) for c in (48, 96, 192)])
    assert net.conv5[0].in_channels == 192
    with pytest.raises(TinyshuffleError, match="need bottlenecks"):
        models.create("resnet18", width_per_group=8)
