from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tinyshuffle import kernels, ops
from tinyshuffle.data import Dataset, batches, hold_out, mix, normalise, num_batches, shrink
from tinyshuffle.data.batches import blank
from tinyshuffle.data.dataset import channel_statistics
from tinyshuffle.errors import TinyshuffleError


def make(count=50):
    """Random pixels, so that no two crops are alike; the label is the image's number."""
    images = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)
    mean, std = channel_statistics(images)
    return Dataset("made up", images, np.arange(count), tuple(map(str, range(count))), mean, std)


def every_augmentation(image, mean, std):
    """(top, left, mirrored) -> the crop, by the definition: normalise, pad with 0, crop, mirror."""
    padded = np.zeros((40, 40, 3))
    padded[4:36, 4:36] = (image / 255 - mean) / std
    for top in range(9):
        for left in range(9):
            crop = padded[top : top + 32, left : left + 32]
            yield (top, left, False), crop
            yield (top, left, True), crop[:, ::-1]


def test_augmentation_is_crop_and_mirror():
    dataset = make()
    seen = []
    for x, labels in batches(dataset, 16, seed=3):
        for image, label in zip(x, labels, strict=True):
            candidates = every_augmentation(dataset.images[label], dataset.mean, dataset.std)
            found = [key for key, crop in candidates if np.abs(crop - image).max() < 1e-5]
            assert len(found) == 1
            seen += found
    assert len(set(seen)) > 30  # each image has its own


def test_alternating_mirrors_each_image_in_every_other_epoch():
    dataset = make()

    def seen(epoch, alternate=True, start=0):
        """Where each image was cropped, and whether it was mirrored."""
        found = {}
        for x, labels in batches(dataset, 16, 3, epoch, start, alternate=alternate):
            for image, label in zip(x, labels, strict=True):
                crops = every_augmentation(dataset.images[label], dataset.mean, dataset.std)
                (key,) = [key for key, crop in crops if np.abs(crop - image).max() < 1e-5]
                found[int(label)] = key
        return found

    epochs = [seen(epoch) for epoch in range(3)]
    mirrored = [{label for label, key in epoch.items() if key[2]} for epoch in epochs]
    assert mirrored[0] == mirrored[2] and 10 < len(mirrored[0]) < 40
    assert mirrored[0] | mirrored[1] == set(range(50)) and not mirrored[0] & mirrored[1]
    # the crops, of the mirrored images, are those of mirroring at random
    places = [
        {label: (top, 8 - left if flip else left) for label, (top, left, flip) in found.items()}
        for found in (epochs[1], seen(1, alternate=False))
    ]
    assert places[0] == places[1]
    assert seen(1, start=2).items() <= epochs[1].items()


def test_what_is_held_out_is_the_same_for_all_and_not_trained_on():
    dataset = make()
    rest, held = hold_out(dataset, 10)
    assert (len(rest), len(held)) == (40, 10)
    assert sorted([*rest.labels, *held.labels]) == list(range(50))
    for part in (rest, held):
        np.testing.assert_array_equal(part.images, dataset.images[part.labels])
        assert part.mean is dataset.mean and part.classes == dataset.classes
    assert hold_out(dataset, 10)[1].labels.tolist() == held.labels.tolist()
    assert held.labels.tolist() != sorted(dataset.labels[-10:])  # as folders are in order of class
    for count in (0, 50, -1):
        with pytest.raises(TinyshuffleError, match=r"cannot be held out: give 1 to 49"):
            hold_out(dataset, count)


def test_both_backends_crop_to_the_same_bits(rng):
    images = rng.integers(0, 256, (40, 5, 7, 3), np.uint8)
    flip = rng.random(40) < 0.5
    top, left = rng.integers(-9, 10, (2, 40))  # some so far away that nothing is left
    scale, offset = rng.standard_normal((2, 3)).astype(np.float32)
    ours = kernels.crop(images, flip, top, left, scale, offset)
    assert ours.dtype == np.float32 and (ours[np.abs(top) > 4] == 0).all()
    np.testing.assert_array_equal(ours, ops.crop(images, flip, top, left, scale, offset))


@pytest.mark.parametrize("shape, size", [((7, 7), 7), ((8, 8), 4), ((8, 8), 5), ((12, 6), 5),
                                         ((7, 9), 1), ((32, 32), 20), ((32, 32), 24)])  # fmt: skip
def test_both_backends_crop_and_scale_alike(rng, shape, size):
    """A crop that is scaled is the crop, scaled; whatever order of the images' axes in memory."""
    images = np.asfortranarray(rng.integers(0, 256, (60, *shape, 3), np.uint8))
    flip = rng.random(60) < 0.5
    top, left = rng.integers(-shape[0] - 2, shape[0] + 3, (2, 60))
    top[:20], left[:40] = 0, 0
    scale, offset = np.float32([1 / 60, 1 / 65, 1 / 70]), np.float32([-2, -1.9, -1.8])
    ours, theirs = (f.crop(images, flip, top, left, scale, offset, size) for f in (kernels, ops))
    assert ours.shape == (60, size, size, 3) and ours.dtype == theirs.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    expected = shrink(ops.crop(images, flip, top, left, scale, offset), size)
    np.testing.assert_array_equal(theirs, expected)
    assert np.ptp(ours) > 0.1


def test_augmentation_is_uniform():
    # One white pixel on black shows where an image went, and whether it was mirrored.
    images = np.zeros((4050, 32, 32, 3), np.uint8)
    images[:, 16, 10] = 255
    dataset = Dataset("dots", images, np.zeros(4050, np.int64), ("dot",), np.zeros(3), np.ones(3))
    x = np.concatenate([x for x, _ in batches(dataset, 100)])[..., 0]
    _, y, column = np.nonzero(x)
    assert len(y) == 4050
    mirrored = column > 15
    left = np.where(mirrored, 31 - column, column)
    counts = np.histogram2d(y, left, bins=(np.arange(12, 22), np.arange(6, 16)))[0]
    assert counts.shape == (9, 9) and counts.sum() == 4050
    assert counts.min() > 20 and counts.max() < 90  # 50 each, standard deviation 7
    assert abs(mirrored.mean() - 0.5) < 0.04
    assert abs(np.corrcoef(y, left)[0, 1]) < 0.08
    assert abs(np.corrcoef(left, mirrored)[0, 1]) < 0.08


def test_an_epoch_holds_every_image_once():
    dataset = make()
    labels = [labels for _, labels in batches(dataset, 16)]
    assert [len(part) for part in labels] == [16, 16, 16, 2]
    order = np.concatenate(labels)
    assert sorted(order) == list(range(50))
    assert (order != np.arange(50)).any()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"epoch": 1}])
def test_seed_and_epoch_decide_order_and_augmentation(changed):
    dataset = make()
    x, labels = next(batches(dataset, 50))
    again, same_labels = next(batches(dataset, 50))
    assert (labels == same_labels).all() and (x == again).all()
    _, other_labels = next(batches(dataset, 50, **changed))
    assert (labels != other_labels).any()
    x, labels = next(batches(dataset, 50, shuffle=False))
    other, same_labels = next(batches(dataset, 50, shuffle=False, **changed))
    assert (labels == same_labels).all()
    assert (x != other).any(axis=(1, 2, 3)).mean() > 0.9  # augmented in another way


def test_each_batch_is_augmented_in_its_own_way():
    one = make(1)
    dataset = replace(one, images=one.images.repeat(8, 0), labels=one.labels.repeat(8))
    x = [x[0] for x, _ in batches(dataset, 1)]
    assert len({image.tobytes() for image in x}) > 5


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_start_continues_bit_for_bit(start):
    dataset = make()
    whole = list(batches(dataset, 16, seed=5, epoch=2))[start:]
    rest = list(batches(dataset, 16, seed=5, epoch=2, start=start))
    assert len(rest) == len(whole) == 4 - start
    for (x, labels), (same_x, same_labels) in zip(whole, rest, strict=True):
        assert (x == same_x).all() and (labels == same_labels).all()


def test_evaluation_changes_nothing_but_the_scale():
    dataset = make()
    (x, labels), *_ = batches(dataset, 50, augment=False, shuffle=False)
    assert (labels == np.arange(50)).all()
    expected = (dataset.images / 255 - dataset.mean) / dataset.std
    np.testing.assert_allclose(x, expected, atol=2e-6)
    assert x.dtype == np.float32


def test_normalised_training_images_have_mean_0_and_deviation_1():
    images = make().images // np.array([1, 2, 5], np.uint8)  # unlike channels
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)) / 255, rtol=1e-6)
    np.testing.assert_allclose(std, images.std((0, 1, 2)) / 255, rtol=1e-6)
    x = normalise(images, mean, std).astype(np.float64)
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-6)


def test_the_data_set_and_earlier_batches_are_left_alone():
    dataset = make()
    before = dataset.images.copy()
    stream = batches(dataset, 16)
    first, _ = next(stream)
    kept = first.copy()
    list(stream)
    assert (first == kept).all()
    assert (dataset.images == before).all()


@pytest.mark.parametrize("count, size", [(50, 16), (48, 16), (5, 16), (1, 1)])
def test_num_batches(count, size):
    assert len(list(batches(make(count), size))) == num_batches(count, size)
    if count >= size:
        stream = list(batches(make(count), size, drop_last=True))
        assert len(stream) == num_batches(count, size, drop_last=True)
        assert all(len(x) == size for x, _ in stream)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 16, "seed": -1}, "seed=-1"),
        ({"batch_size": 16, "start": -1}, "start=-1"),
        ({"batch_size": 51, "drop_last": True}, "batch_size=51"),
        ({"batch_size": 2.5}, "batch_size=2.5 .* whole number"),
        ({"batch_size": 16, "cutout": -1}, "cutout=-1"),
        ({"batch_size": 16, "cutout": 10**20}, "cutout=1000.*at most 64"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments, sentence):
    with pytest.raises(TinyshuffleError, match=sentence):
        batches(make(), **arguments)


def test_an_empty_data_set_is_refused():
    dataset = make()
    with pytest.raises(TinyshuffleError, match="empty"):
        batches(replace(dataset, images=dataset.images[:0], labels=dataset.labels[:0]), 16)


def wrong(**changes):
    """What a data set is made of, with something wrong: keyword -> value."""
    parts = vars(make(10))
    return {**parts, **changes}


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (dict(images=np.full((10, 32, 32, 3), 0.5, np.float32)), r"float32 .*255 \* images"),
        (dict(images=np.zeros((10, 32, 32, 4), np.uint8)), r"\(10, 32, 32, 4\).*uint8 RGB"),
        (dict(images=np.zeros((10, 3, 32, 32), np.uint8)), "channels last"),
        (dict(images=np.zeros((32, 32, 3), np.uint8)), r"\(N, H, W, 3\)"),
        (dict(labels=np.arange(4)), r"10 images and labels of shape \(4,\)"),
        (dict(labels=np.zeros((10, 1), np.int64)), "one label an image"),
        (dict(labels=np.zeros(10)), "labels of float64: they must be whole numbers"),
        (dict(labels=np.arange(10) - 1), "labels from -1 to 8 and 10 classes"),
        (dict(labels=np.arange(10) + 1), "labels from 1 to 10 .*must be 0 to 9"),
        (dict(mean=np.zeros(4)), "mean=.*three numbers"),
        (dict(mean=np.array([0.5, np.nan, 0.5])), "mean=.*three numbers"),
        (dict(std=np.ones(1)), "std=.*three numbers"),
        (dict(std=np.array([0.2, 0.0, 0.2])), "std=.*above 0"),
    ],
)
@pytest.mark.parametrize("augment", [True, False])
def test_what_does_not_fit_together_is_refused_on_both_paths(changes, sentence, augment):
    with pytest.raises(TinyshuffleError, match=sentence):
        list(batches(Dataset(**wrong(**changes)), 4, augment=augment))


@pytest.mark.parametrize("augment", [True, False])
def test_memory_order_and_kind_of_whole_number_do_not_matter(augment):
    plain = make(10)
    odd = Dataset(**wrong(
        images=np.asfortranarray(plain.images), labels=list(map(np.uint8, plain.labels))
    ))  # fmt: skip
    for ours, theirs in zip(
        batches(odd, np.int64(4), augment=augment), batches(plain, 4, augment=augment), strict=True
    ):
        assert (ours[0] == theirs[0]).all() and (ours[1] == theirs[1]).all()
        assert ours[1].dtype == np.int64


def test_a_data_set_is_a_line():
    assert repr(make(10)) == "Dataset('made up': 10 images of 32x32, 10 classes)"


def test_mix_and_shrink_refuse_what_does_not_fit(rng):
    x = np.zeros((4, 8, 8, 3), np.float32)
    with pytest.raises(TinyshuffleError, match="4 images and 3 labels"):
        mix(x, np.arange(3), 0.4, rng)
    with pytest.raises(TinyshuffleError, match="only made smaller"):
        shrink(x, 9)


@pytest.mark.parametrize("shape, dtype", [((2, 3, 32, 32), np.uint8), ((2, 32, 32, 3), np.float32)])
def test_normalise_refuses_what_is_not_rgb_bytes(shape, dtype):
    with pytest.raises(TinyshuffleError, match="uint8 RGB"):
        normalise(np.zeros(shape, dtype), np.zeros(3), np.ones(3))


# ---- cutout, smaller images, mixup


def test_cutout_blanks_one_square_of_each_image_and_nothing_else():
    x = np.ones((500, 20, 30, 3), np.float32)
    blank(x, 7, np.random.default_rng(0))
    assert (x[..., 0] == x[..., 1]).all() and (x[..., 0] == x[..., 2]).all()
    places = set()
    for image in x[..., 0]:
        rows, columns = np.flatnonzero((image == 0).any(1)), np.flatnonzero((image == 0).any(0))
        assert (image[np.ix_(rows, columns)] == 0).all()
        assert (image == 0).sum() == len(rows) * len(columns)
        for part, length in ((rows, 20), (columns, 30)):
            assert (np.diff(part) == 1).all()
            # 7 pixels, or what is left at a border of a square whose centre is inside
            at_border = part[0] == 0 or part[-1] + 1 == length
            assert len(part) == 7 or (4 <= len(part) < 7 and at_border)
        places.add((rows[0], columns[0]))
    assert len(places) > 200


def test_cutout_leaves_order_crops_and_mirrors_alone():
    dataset = make()
    plain = list(batches(dataset, 16, seed=3))
    cut = list(batches(dataset, 16, seed=3, cutout=12))
    for (x, labels), (y, same) in zip(plain, cut, strict=True):
        assert (labels == same).all()
        kept = (x == y).all(-1)
        assert (y[~kept] == 0).all()
        assert 0.05 < (~kept).mean() < 0.2  # 144 of 1024 pixels, less at borders
    (x, _), *_ = batches(dataset, 16, augment=False, cutout=12)
    assert (x != 0).any(-1).all()


@pytest.mark.parametrize("shape, size", [((8, 8), 4), ((8, 8), 5), ((12, 6), 5), ((7, 9), 1)])
def test_shrinking_is_a_mean_over_the_area(shape, size):
    height, width = shape
    x = np.random.default_rng(0).standard_normal((3, height, width, 3)).astype(np.float32)
    fine = x.repeat(size, 1).repeat(size, 2)  # every pixel as size x size parts
    expected = fine.reshape(3, size, height, size, width, 3).mean((2, 4))
    small = shrink(x, size)
    assert small.dtype == np.float32 and small.flags.c_contiguous
    np.testing.assert_allclose(small, expected, atol=5e-6)


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_shrinking_wakes_no_other_thread(monkeypatch):
    """It would wait busily, on the core that the net's other slice is about to need."""
    names, seen = shrink.__globals__, []  # `tinyshuffle.ops.crop` is the function
    area = names["area"]
    monkeypatch.setitem(names, "area", lambda *sides: seen.append(blas_threads()) or area(*sides))
    before = blas_threads()
    shrink(np.zeros((2, 8, 8, 3), np.float32), 4)
    assert len(seen) == 2 and all(threads == 1 for threads in seen[1])  # as it multiplies
    assert blas_threads() == before


def test_shrunk_batches_are_the_same_images():
    dataset = make()
    for (x, labels), (small, same) in zip(
        batches(dataset, 16, cutout=8), batches(dataset, 16, cutout=8, size=24), strict=True
    ):
        assert (labels == same).all()
        assert small.tobytes() == shrink(x, 24).tobytes()
    for options in ({}, {"augment": False}):
        for (x, labels), (small, same) in zip(
            batches(dataset, 16, **options), batches(dataset, 16, size=24, **options), strict=True
        ):
            assert (labels == same).all()
            np.testing.assert_allclose(small, shrink(x, 24), rtol=0, atol=1e-6)
    (x, _), *_ = batches(dataset, 16)
    (same, _), *_ = batches(dataset, 16, size=32)
    assert same.tobytes() == x.tobytes()


@pytest.mark.parametrize("size", [0, 33])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(TinyshuffleError, match=rf"cannot be scaled to {size} pixels .*32x32"):
        batches(make(), 16, size=size)


def test_mixup_blends_images_and_names_both_labels():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((5, 4, 4, 3)).astype(np.float32), np.arange(5)
    shares = []
    for _ in range(200):
        mixed, other, share = mix(x, labels, 0.4, rng)
        assert mixed.dtype == np.float32
        expected = share * x[labels] + (1 - share) * x[other]
        np.testing.assert_allclose(mixed, expected, atol=1e-6)
        shares.append(share)
    assert sorted(other) == list(labels)
    # Beta(0.4, 0.4): mean 1/2, variance 1 / (4 (2 * 0.4 + 1))
    assert abs(np.mean(shares) - 0.5) < 0.08
    assert abs(np.var(shares) - 1 / 7.2) < 0.03


@pytest.mark.parametrize("backend", [ops, kernels])
def test_a_crop_reads_nothing_beyond_its_arrays(backend):
    images, flip, at = np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, bool), np.zeros(2, int)
    scale = np.ones(3, np.float32)
    for arguments, words in (
        ((images.astype(float), flip, at, at, scale, scale), "uint8 pixels"),
        ((images[0], flip, at, at, scale, scale), "uint8 pixels"),
        ((images, flip[:1], at, at, scale, scale), "flip has shape"),
        ((images, flip, at, at[:1], scale, scale), "left has shape"),
        ((images, flip, at, at, scale[:1], scale), "scale has shape"),
        ((np.zeros((2, 4, 4, 4), np.uint8), flip, at, at, scale, scale), "of 4 channels need"),
    ):
        with pytest.raises(TinyshuffleError, match=words):
            backend.crop(*arguments)
    for size in (0, 5):
        with pytest.raises(TinyshuffleError, match=f"4x4 cannot be scaled to {size} pixels"):
            backend.crop(images, flip, at, at, scale, scale, size)


def test_small_integers_of_numpy_do_not_wrap_around():
    dataset = make(300)
    sizes = [len(y) for _, y in batches(dataset, np.uint8(200), drop_last=False)]
    assert sizes == [200, 100]
    with pytest.raises(TinyshuffleError, match="batch_size=True"):
        next(batches(dataset, True))
