"""Two thin layers are as near to one as Eckart and Young say."""

from __future__ import annotations

import numpy as np
import pytest

from tinyshuffle import TinyshuffleError, nn
from tinyshuffle.compress import low_rank


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(9, 5), (4, 7)])
def test_what_is_lost_are_the_singular_values_left_out(shape, bias):
    layer = nn.Linear(*shape, bias=bias).initialise(0).astype("float64")
    w = layer.weight.data.copy()
    sigma = np.linalg.svd(w, compute_uv=False)
    x = np.random.default_rng(0).standard_normal((3, shape[0]))
    for rank in range(1, min(shape) + 1):
        net = low_rank(layer, rank).astype("float64")
        first, second = (part.weight.data for part in net)
        assert first.shape == (shape[0], rank) and second.shape == (rank, shape[1])
        lost = ((w - first @ second) ** 2).sum()
        assert lost == pytest.approx((sigma[rank:] ** 2).sum(), abs=1e-6)
        assert len(net.parameters()) == 2 + bias
    np.testing.assert_allclose(net(x), layer(x), atol=1e-5)
    np.testing.assert_array_equal(layer.weight.data, w)


@pytest.mark.parametrize(
    ("layer", "rank", "words"),
    [
        (nn.Linear(4, 3), 4, "use 1 to 3"),
        (nn.Linear(4, 3), 0, "rank=0 is not possible"),
        (nn.Conv2d(4, 3, 1), 2, "give an nn.Linear"),
    ],
)
def test_what_has_no_such_rank(layer, rank, words):
    with pytest.raises(TinyshuffleError, match=words):
        low_rank(layer, rank)
