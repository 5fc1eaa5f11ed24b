"""The zoo's sizes and costs against what is published, and its corners."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError, models, nn, ops
from tinyshuffle.cost import profile
from tinyshuffle.cost.smallest import smallest_input
from tinyshuffle.models import other_units


def total(name: str, side: int = 224, **variant):
    return profile(name, (1, side, side, 3), **variant).total


# ---- 224x224, 1000 classes


@pytest.mark.parametrize(
    ("name", "params", "giga"),
    [  # torchvision's metadata: num_params, and _ops to the digits it prints
        ("alexnet", 61_100_840, 0.714),
        ("vgg11", 132_863_336, 7.609),
        ("vgg11_bn", 132_868_840, 7.609),
        ("vgg13", 133_047_848, 11.308),
        ("vgg13_bn", 133_053_736, 11.308),
        ("vgg16", 138_357_544, 15.47),
        ("vgg16_bn", 138_365_992, 15.47),
        ("vgg19", 143_667_240, 19.632),
        ("vgg19_bn", 143_678_248, 19.632),
        ("googlenet", 6_624_904, 1.498),
        ("resnet18", 11_689_512, 1.814),
        ("resnet34", 21_797_672, 3.664),
        ("resnet50", 25_557_032, 4.089),
        ("resnet101", 44_549_160, 7.801),
        ("resnet152", 60_192_808, 11.514),
        ("resnext50_32x4d", 25_028_904, 4.23),
        ("mobilenet_v2", 3_504_872, 0.301),
        ("squeezenet1_0", 1_248_424, 0.819),
        ("squeezenet1_1", 1_235_496, 0.349),
        ("densenet121", 7_978_856, 2.834),
        ("densenet169", 14_149_480, 3.36),
        ("densenet201", 20_013_928, 4.291),
        # Cadene/pretrained-models.pytorch; V2 Table 6 prints 20.7 G for it
        ("senet154", 115_088_984, 20.688),
        ("nasnet_a_mobile", 5_289_978, 0.564),
    ],
)
def test_torchvisions_metadata(name, params, giga):
    cost = total(name)
    assert cost.params == params
    assert round(cost.multiply_adds / 1e9, 3) == giga


@pytest.mark.parametrize(
    ("name", "params", "mega"),
    [  # MobileNet V1, Table 6, with osmr/imgclsmob's parameters to the digit
        ("mobilenet_v1_x1_0", 4_231_976, 569),
        ("mobilenet_v1_x0_75", 2_585_560, 325),
        ("mobilenet_v1_x0_5", 1_331_592, 149),
        ("mobilenet_v1_x0_25", 470_072, 41),
        # torchvision's rounding; the MobileNet V2 paper prints 585 M and 6.9 M parameters
        ("mobilenet_v2_x1_4", 6_108_776, 582),
        # the two-tower net of BVLC Caffe; V1 Table 6 prints 720
        ("alexnet_original", 60_965_224, 724),
        # the 29 MB (of 4-byte numbers) that Caffe's model zoo gives
        ("nin", 7_595_176, 1100),
    ],
)
def test_published_counts(name, params, mega):
    cost = total(name)
    assert cost.params == params
    assert round(cost.multiply_adds / 1e6) == mega


@pytest.mark.parametrize(
    ("side", "mega"), [(224, 569), (192, 418), (160, 291), (128, 186)]
)
def test_mobilenet_v1_table_7(side, mega):
    """The paper prints 290 for 290.68."""
    assert round(total("mobilenet_v1_x1_0", side).multiply_adds / 1e6) == mega


def test_mobilenet_v1_table_2():
    """Where its multiply-adds and parameters are; 3x3 is misprinted as 1.19 % there."""
    rows = profile("mobilenet_v1_x1_0").by("kind")
    whole = {name: sum(getattr(r, name) for r in rows) for name in ("multiply_adds", "params")}
    share = {
        r.kind: tuple(round(100 * getattr(r, n) / whole[n], 2) for n in whole) for r in rows
    }
    assert share["pointwise"][0] == 94.86
    assert share["depthwise"][0] == 3.06
    assert share["dense"][0] == 1.91
    assert share["linear"][0] == 0.18
    assert share["linear"][1] == pytest.approx(24.33, abs=0.15)


@pytest.mark.parametrize(
    ("name", "giga"), [("shufflenet_v1_50", 2.3), ("shufflenet_v2_50", 2.3)]
)
def test_v2_appendix_table_2(name, giga):
    assert round(total(name).multiply_adds / 1e9, 1) == giga


def test_se_shufflenet_v2_164_is_not_quite_the_papers():
    """12.7 G is printed. The layers are as many as the name says."""
    assert total("se_shufflenet_v2_164").multiply_adds == 12_541_354_352
    net = models.create("se_shufflenet_v2_164").net
    units = sum(len(stage) for stage in (net.conv2, net.conv3, net.conv4, net.conv5))
    stem, conv6, fc = len(net.conv1) // 3, 1, 1
    assert stem + 3 * units + conv6 + fc == 164


def test_the_star_has_few_multiply_adds_more():
    for name, widths in (("0_5", (24, 48, 96, 192)), ("1_0", (24, 116, 232, 464))):
        plain = total(f"shufflenet_v2_x{name}").multiply_adds
        more = 0
        for c, out, repeat, hw in zip(
            widths, widths[1:], (4, 8, 4), (784, 196, 49), strict=False
        ):
            more += 9 * (4 * hw * c + (repeat - 1) * hw * out // 2)
        assert total(f"shufflenet_v2_star_x{name}").multiply_adds - plain == more
        assert more < 0.06 * plain


@pytest.mark.parametrize(
    ("name", "variant", "millions", "mega"),
    [  # parameters and multiply-adds, in millions, as the nets' own papers print them
        ("mobilenet_v1_x1_0", {"factorised": False}, "29.3", 4867),  # printed: 4866, see errata
        ("mobilenet_v1_x1_0", {"shallow": True}, "2.9", 307),
        ("vgg11", {"lrn": True}, "133", 7609),
        ("vgg16", {"conv1x1": True}, "134", 11771),
        ("resnet50", {"stride_first": True}, "25.6", 3858),
        ("resnet101", {"stride_first": True}, "44.5", 7570),
        ("resnet152", {"stride_first": True}, "60.2", 11282),
        ("resnet34", {"shortcut": "padding"}, "21.6", 3644),
        ("resnet34", {"shortcut": "none"}, "21.6", 3644),
        ("igcv3", {}, "3.5", 313),
        ("pnasnet5_mobile", {}, "5.1", 588),
        ("condensenet74_g8", {}, "2.9", 262),
        ("condensenet74_g4", {}, "4.8", 517),
        ("googlenet", {"branch5x5": True}, "7.0", 1583),
    ],
)
def test_the_papers_variants(name, variant, millions, mega):
    cost = total(name, **variant)
    assert f"{cost.params / 1e6:.{len(millions.partition('.')[2])}f}" == millions
    assert round(cost.multiply_adds / 1e6) == mega


def test_condensenet_for_cifar():
    """CondenseNet-86, whose authors count ReLUs and pools, too: 65.8 M and 0.52 M parameters."""
    found = profile("condensenet74_g4", (1, 32, 32, 3))
    also = sum(row.elementwise for row in found.rows if row.kind != "batch norm")
    assert round((found.total.multiply_adds + also) / 1e6, 1) == 65.8
    assert round(found.total.params / 1e6, 2) == 0.52


def test_xception_has_the_parameters_that_its_paper_prints():
    assert total("xception", 299).params == 22_855_952


@pytest.mark.parametrize(
    ("depth", "padded", "projected"),
    [  # padded: the paper's Table 6 in millions; projected: chenyaofo's, with its multiply-adds
        (20, "0.27", (0.27, 40.81)), (32, "0.46", (0.47, 69.12)), (44, "0.66", None),
        (56, "0.85", (0.86, 125.75)), (110, "1.7", None),
    ],
)  # fmt: skip
def test_the_papers_nets_for_cifar(depth, padded, projected):
    params = total(f"resnet{depth}", 32).params / 1e6
    assert f"{params:.{len(padded) - 2}f}" == padded
    assert total(f"resnet{depth}", 32, shortcut="none").params / 1e6 == params
    if projected:
        cost = total(f"resnet{depth}", 32, shortcut="projection")
        found = round(cost.params / 1e6, 2), round(cost.multiply_adds / 1e6, 2)
        assert found == projected


def test_googlenets_auxiliary_classifiers():
    assert total("googlenet", aux_logits=True).multiply_adds == total("googlenet").multiply_adds
    net = models.create("googlenet", aux_logits=True)
    assert sum(int(np.prod(p.shape)) for p in net.parameters()) == 13_004_888  # torchvision's


# ---- V1 Table 4


def table_4_count(kind: str, last: int, stem: int) -> float:
    """The paper's formulas, hw·18m² for VGG-like and hw(2cm + 9m²/g), fractional groups and all."""
    count, c = 112 * 112 * 27 * stem, stem
    for out, repeat, hw in zip(
        (last // 4, last // 2, last), (4, 8, 4), (784, 196, 49), strict=True
    ):
        for i in range(repeat):
            if kind == "vgg":
                count += hw * 9 * (c + out) * out
            else:
                m = out / 4 if kind == "resnet" else out / 2
                count += hw * (c * m + out * m + 9 * m * m / (1 if kind == "resnet" else 16))
                count += hw * c * out if i == 0 else 0
            c = out
    return count + 1000 * c


@pytest.mark.parametrize("kind", other_units.WIDTHS)
@pytest.mark.parametrize("budget", other_units.STEM_WIDTH)
def test_table_4s_widths_come_nearest_to_the_budget(kind, budget):
    last, stem = other_units.WIDTHS[kind][budget], other_units.STEM_WIDTH[budget]
    step = 2 if kind == "vgg" else 16
    miss = {w: abs(table_4_count(kind, w, stem) - budget * 1e6) for w in range(step, 800, step)}
    assert min(miss, key=miss.__getitem__) == last
    if budget == 38:
        assert last == {"vgg": 50, "resnet": 192, "resnext": 192}[kind]  # printed in section 4.2


@pytest.mark.parametrize("kind", ["vgg", "resnet"])
@pytest.mark.parametrize("budget", [140, 38, 13])
def test_table_4s_nets_cost_what_the_formulas_say(kind, budget):
    count = table_4_count(kind, other_units.WIDTHS[kind][budget], other_units.STEM_WIDTH[budget])
    assert total(f"{kind}_like_{budget}m").multiply_adds == count


@pytest.mark.parametrize(
    ("name", "mega"),
    [
        ("vgg_like_140m", 138.1), ("vgg_like_38m", 37.6), ("vgg_like_13m", 13.2),
        ("resnet_like_140m", 137.2), ("resnet_like_38m", 36.4), ("resnet_like_13m", 12.3),
        ("resnext_like_140m", 143.1), ("resnext_like_38m", 38.9), ("resnext_like_13m", 14.0),
        ("xception_like_140m", 143.1), ("xception_like_38m", 38.5), ("xception_like_13m", 13.2),
    ],
)  # fmt: skip
def test_table_4(name, mega):
    assert round(total(name).multiply_adds / 1e6, 1) == mega
    assert f"{mega} M" in other_units.__doc__


def test_the_xception_like_net_is_shufflenet_without_groups_and_shuffle():
    net = models.create("xception_like_38m")
    assert net.fc.in_features == 288  # printed in section 4.2
    assert not any(isinstance(m, nn.ChannelShuffle) for m in net.modules())


# ---- 32x32


@pytest.mark.parametrize(
    ("name", "params", "mega"),
    [  # chenyaofo/pytorch-cifar-models: 10 classes
        ("mobilenet_v2_x0_5", 0.70, 27.97),
        ("mobilenet_v2_x0_75", 1.37, 59.31),
        ("mobilenet_v2", 2.24, 87.98),
        ("mobilenet_v2_x1_4", 4.33, 170.07),
        ("vgg11_bn", 9.76, 153.29),
        ("vgg16_bn", 15.25, 313.73),
    ],
)
def test_chenyaofos_nets_for_cifar(name, params, mega):
    cost = total(name, 32)
    assert round(cost.params / 1e6, 2) == params
    assert round(cost.multiply_adds / 1e6, 2) == mega


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("resnet18", 11_173_962),  # kuangliu/pytorch-cifar
        ("mobilenet_v1_x1_0", 3_217_226),  # the same
        ("nin", 966_986),  # the paper's own net
    ],
)
def test_other_nets_for_cifar(name, params):
    assert total(name, 32).params == params


# ---- names, sizes, states


def test_resnext_is_32_groups_of_4():
    net = models.create("resnext50_32x4d")
    conv = net.layer1[0].conv2
    assert (conv.groups, conv.out_channels) == (32, 128)


def test_names_are_torchvisions():
    names = {
        "alexnet": ("features.0.weight", "features.10.bias", "classifier.1.weight",
                    "classifier.6.bias"),
        "vgg16_bn": ("features.0.weight", "features.1.running_mean", "features.40.weight",
                     "classifier.0.weight", "classifier.6.weight"),
        "googlenet": ("conv1.conv.weight", "inception3a.branch1.bn.weight",
                      "inception4e.branch2.1.conv.weight", "inception5b.branch4.1.conv.weight",
                      "fc.weight", "aux1.conv.conv.weight", "aux2.fc2.bias"),
        "resnet50": ("conv1.weight", "bn1.running_var", "layer1.0.downsample.1.weight",
                     "layer3.5.conv3.weight", "layer4.2.bn3.num_batches_tracked", "fc.bias"),
        "squeezenet1_1": ("features.0.weight", "features.3.squeeze.weight",
                          "features.12.expand3x3.bias", "classifier.1.weight"),
        "densenet121": ("features.conv0.weight", "features.denseblock3.denselayer24.norm2.bias",
                        "features.transition2.conv.weight", "features.norm5.weight",
                        "classifier.bias"),
        "mobilenet_v2": ("features.0.0.weight", "features.1.conv.0.0.weight",
                         "features.1.conv.2.bias", "features.17.conv.1.1.weight",
                         "features.18.0.weight", "classifier.1.weight"),
    }  # fmt: skip
    for name, some in names.items():
        variant = {"aux_logits": True} if name == "googlenet" else {}
        have = set(models.create(name, **variant)._state(shapes_only=True))
        assert set(some) <= have, name
    counts = {"alexnet": 16, "resnet50": 320, "densenet121": 727, "mobilenet_v2": 314}
    for name, count in counts.items():
        assert len(models.create(name)._state(shapes_only=True)) == count


def test_a_width_scales_every_layer():
    def channels(name, **variant):
        net = models.create(name, 10, "cifar", **variant).net
        return [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]

    for name, more in (("alexnet", {}), ("googlenet", {"aux_logits": True})):
        whole = channels(name, **more)
        assert channels(name, width=0.3, **more) == [int(0.3 * c) for c in whole]
        assert min(channels(name, width=1e-3, **more)) == 1


@pytest.mark.parametrize("stem, side", [("imagenet", 224), ("cifar", 32)])
def test_pools_that_do_not_overlap_leave_maps_of_the_same_size(stem, side):
    """AlexNet, section 3.4: so that the comparison is of the windows alone."""
    over, beside = (
        profile("alexnet", (1, side, side, 3), stem=stem, overlap=o).rows
        for o in (True, False)
    )
    assert [row.output for row in over] == [row.output for row in beside]
    assert [row.params for row in over] == [row.params for row in beside]


@pytest.mark.parametrize(
    ("name", "smallest"),
    [  # torchvision's min_size
        ("alexnet", 63), ("googlenet", 15), ("squeezenet1_0", 21), ("squeezenet1_1", 17),
        ("densenet121", 29), ("vgg16", 32), ("resnet18", 1), ("mobilenet_v2", 1),
    ],
)  # fmt: skip
def test_the_smallest_images(name, smallest):
    assert smallest_input(models.create(name).net) == smallest


def test_images_that_are_too_small_are_told_the_smallest():
    with pytest.raises(TinyshuffleError) as error:
        profile("alexnet", (1, 224, 62, 3), stem="imagenet")
    assert str(error.value) == (
        "an image of 224x62 pixels is too small for alexnet; the smallest that it takes is 63x63"
    )
    with pytest.raises(TinyshuffleError, match="expects 3 channels"):  # that is not why
        profile("alexnet", (1, 224, 62, 4))
    chain = nn.Sequential(nn.Conv2d(5, 2, 7), nn.MaxPool2d(2))
    with pytest.raises(TinyshuffleError, match=r"too small for Sequential; .* 8x8"):
        profile(chain, (1, 7, 7, 5))


def test_a_net_that_takes_nothing_has_no_smallest_image():
    assert smallest_input(nn.Conv2d(4, 2, 1), channels=3) is None


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: models.VGG(12), "depths are 11, 13, 16, 19"),
        (lambda: models.ResNet(20), "depths are 18, 34, 50, 101, 152"),
        (lambda: models.ResNet(18, groups=32), "use a depth from 50 up"),
        (lambda: models.ResNet(34, stride_first=True), "use a depth from 50 up"),
        (lambda: models.ResNet(34, shortcut="pad"), "use projection, padding, none"),
        (lambda: models.CifarResNet(21), "depths are 6n . 2, such as 20, 56, 110"),
        (lambda: models.VGG(13, conv1x1=True), "has 16 layers and not 13"),
        (lambda: models.CondenseNet(2), "give 4 or 8"),
        (lambda: models.IGCV3(0), "use a number above 0"),
        (lambda: models.DenseNet(100), "depths are 121, 169, 201"),
        (lambda: models.SqueezeNet("2"), "versions are 1.0, 1.1"),
        (lambda: models.MobileNetV1(0), "use a number above 0"),
        (lambda: models.MobileNetV2(-1), "use a number above 0"),
        (lambda: models.OtherUnits("vgg", 100), "budgets 140, 38, 13"),
        (lambda: models.create("resnet18", stem="mnist"), "use 'imagenet' or 'cifar'"),
        (lambda: models.create("mobilenet_v2", widht=1.3), "it takes width"),
        (lambda: models.create("mobilenetv2"), "did you mean .*mobilenet_v2"),
        (lambda: models.AuxiliaryLoss()(np.zeros((2, 10)), np.zeros(2, int)), "aux_logits=True"),
    ],
)
def test_bad_arguments(build, words):
    with pytest.raises(TinyshuffleError, match=words):
        build()


def test_any_width_of_mobilenet():
    net = models.create("mobilenet_v2", width=0.35)
    units = list(net.features)[1:18:4]
    assert [unit.conv[-2].out_channels for unit in units] == [8, 16, 24, 32, 112]
    assert net.classifier[1].in_features == 1280
    assert models.create("mobilenet_v1_x1_0", width=0.1).fc.in_features == 102


@pytest.mark.parametrize(
    ("name", "params"), [("vgg19", 143_667_240), ("se_shufflenet_v2_164", 75_717_922)]
)
def test_nothing_is_drawn_before_it_is_needed(name, params):
    """VGG-19 has 575 MB of weights; SE-V2-164 the most layers."""
    net = models.create(name)
    assert profile(net).total.params == params
    assert all(p._data is None for p in net.parameters())


# ---- initial weights


def spread(p) -> float:
    return float(p.data.std())


def test_initial_weights():
    """Drawn as torchvision draws them; the fan_out of He et al. does not know groups there."""
    net = models.create("resnext50_32x4d")
    assert spread(net.layer2[0].conv2.weight) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    net = models.create("mobilenet_v2")
    conv = net.features[5].conv[1][0]
    assert conv.kind == "depthwise"
    assert spread(conv.weight) == pytest.approx((2 / (9 * conv.out_channels)) ** 0.5, rel=0.1)
    assert spread(net.classifier[1].weight) == pytest.approx(0.01, rel=0.02)
    assert not net.classifier[1].bias.data.any()
    net = models.create("vgg11")
    assert spread(net.features[3].weight) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert not net.features[3].bias.data.any()
    net = models.create("densenet121")
    layer = net.features.denseblock1.denselayer2
    assert spread(layer.conv1.weight) == pytest.approx((2 / 96) ** 0.5, rel=0.03)
    net = models.create("squeezenet1_0")
    bound = (6 / 96) ** 0.5
    assert 0.97 * bound < np.abs(net.features[3].squeeze.weight.data).max() <= bound
    assert spread(net.classifier[1].weight) == pytest.approx(0.01, rel=0.02)
    net = models.create("googlenet")
    assert spread(net.inception3a.branch2[1].conv.weight) == pytest.approx(0.01, rel=0.02)
    net = models.create("alexnet_original")
    biases = [layer.bias.data.mean() for layer in net.features if hasattr(layer, "weight")]
    assert biases == [0, 1, 0, 1, 1]
    assert [net.classifier[i].bias.data.mean() for i in (1, 4, 6)] == [1, 1, 0]


def test_a_seed_is_a_net():
    a, b, c = (models.create("resnet18", seed=s).conv1.weight.data for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.01
    assert a.dtype == np.float32


# ---- GoogLeNet's three classifiers


@pytest.fixture(scope="module")
def googlenet():
    return models.create("googlenet", num_classes=5, stem="cifar", aux_logits=True)


def test_googlenet_returns_three_sets_of_logits_in_training(googlenet, rng):
    googlenet.train()
    x = rng.standard_normal((4, 16, 16, 3)).astype(np.float32)
    labels = np.array([0, 4, 2, 2])
    logits, loss = googlenet(x), models.AuxiliaryLoss()
    assert logits.shape == (4, 15)
    value = loss(logits, labels)
    main, first, second = (
        nn.CrossEntropyLoss()(logits[:, i : i + 5], labels) for i in (0, 5, 10)
    )
    assert value == pytest.approx(main + 0.3 * (first + second), rel=1e-6)
    googlenet.backward(loss.backward())
    assert all(p.grad is not None and np.isfinite(p.grad).all() for p in googlenet.parameters())


def test_the_first_auxiliary_classifier_feeds_the_front_only(googlenet, rng):
    googlenet.train()
    googlenet.zero_grad()
    x = rng.standard_normal((2, 16, 16, 3)).astype(np.float32)
    dy = np.zeros((2, 15), np.float32)
    googlenet(x)
    dy[:, 5:10] = rng.standard_normal((2, 5))
    googlenet.backward(dy)
    moved = {p.name.split(".")[0] for p in googlenet.parameters() if np.abs(p.grad).max() > 0}
    assert moved == {"conv1", "conv2", "conv3", "inception3a", "inception3b", "inception4a", "aux1"}


def test_googlenet_returns_its_own_logits_in_evaluation(googlenet, rng):
    googlenet.eval()
    x = rng.standard_normal((2, 16, 16, 3)).astype(np.float32)
    assert googlenet(x).shape == (2, 5)
    net = googlenet.net  # alone, a net in evaluation has a backward pass too
    net(x)
    assert net.backward(np.ones((2, 5), np.float32)).shape == x.shape


def test_the_auxiliary_loss_is_a_loss(rng):
    logits, labels, loss = rng.standard_normal((3, 12)), np.array([3, 0, 1]), models.AuxiliaryLoss()
    value = loss(logits, labels)
    slope = (loss.backward() * logits).sum()
    moved = loss(logits * (1 + 1e-6), labels)
    assert (moved - value) / 1e-6 == pytest.approx(slope, rel=1e-4)
    assert ops.cross_entropy(logits[:, :4], labels)[0] < value
