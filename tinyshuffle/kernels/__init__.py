"""The functions of ``tinyshuffle.ops``, same names, same signatures, same results, made fast.

``ops`` is the definition and says what each function does; a file here holds the hot loops of its
twin there. What has none is the definition's own.

A public function checks shapes, finds memory for the result and calls a kernel. Kernels are numba
functions of one thread that let other threads run: the parallelism comes from outside, where each
core takes its slice of a batch through the whole net (``tinyshuffle.parallel``).
"""

from ..ops import *  # noqa: F403 (what has no twin here)
from .activations import (
    relu,
    relu6,
    relu6_backward,
    relu6_cost,
    relu_backward,
    relu_cost,
    sigmoid,
    sigmoid_backward,
    sigmoid_cost,
    tanh,
    tanh_backward,
    tanh_cost,
)
from .batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_backward_sums,
    batch_norm_cost,
    batch_norm_eval_backward,
    batch_norm_statistics,
    batch_norm_sums,
)
from .branches import (
    add,
    add_backward,
    add_cost,
    channel_split,
    channel_split_backward,
    channel_split_cost,
    concat,
    concat_backward,
    concat_cost,
)
from .channel_scale import channel_scale, channel_scale_backward, channel_scale_cost
from .channel_shuffle import channel_shuffle, channel_shuffle_backward, channel_shuffle_cost
from .conv import conv2d, conv2d_backward, conv2d_cost
from .crop import crop
from .depthwise import depthwise_conv2d, depthwise_conv2d_backward, depthwise_conv2d_cost
from .int8 import (
    int8_concat,
    int8_conv2d,
    int8_dequantise,
    int8_linear,
    int8_quantise,
    int8_range,
    int8_weights,
)
from .linear import linear, linear_backward, linear_cost
from .meeting import (
    concat_shuffle,
    concat_shuffle_backward,
    norm_add_relu,
    norm_add_relu_backward,
)
from .nms import nms
from .norm_conv import conv_norm, norm_conv, norm_conv_backward, normalised
from .pointwise import pointwise_conv2d, pointwise_conv2d_backward, pointwise_conv2d_cost
from .pool import (
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool2d_cost,
    global_avg_pool,
    global_avg_pool_backward,
    global_avg_pool_cost,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_cost,
)
from .roi_align import ps_roi_align, ps_roi_align_backward, roi_align, roi_align_backward
from .sgd import sgd_step
