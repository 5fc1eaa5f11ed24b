"""The mathematics, one operation a file: equation, forward, backward, cost.

Plain NumPy, written to be read; ``tinyshuffle.kernels`` holds the same functions made fast.

The shape alphabet, used in every comment of the package::

    N        images in the batch            C, O     channels in, channels out
    H, W     height and width               G        groups
    Ho, Wo   the same after the stride      Cg, Og   C / G, O / G
    Kh, Kw   height and width of a kernel   M        N · H · W, the pixels of a batch

Activations are (N, H, W, C); a convolution's weights are (Kh, Kw, Cg, O), a depthwise one's
(Kh, Kw, C), a linear layer's (C, O). Gradients are ``d`` + name: ``dx`` has the shape of ``x``.
Every function returns fresh arrays of the dtype that it was given and changes none of its
arguments.

``name_cost`` takes the arguments of ``name`` with shapes in the place of arrays, and returns a
:class:`Cost`.
"""

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
from .adaptive_pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool2d_cost,
)
from .batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_backward_sums,
    batch_norm_cost,
    batch_norm_eval_backward,
    batch_norm_gradients,
    batch_norm_statistics,
    batch_norm_sums,
    batch_norm_track,
)
from .binary_cross_entropy import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    binary_cross_entropy_cost,
)
from .boxes import (
    anchors,
    anchors_cost,
    box_decode,
    box_decode_cost,
    box_encode,
    box_encode_cost,
    box_iou,
    box_iou_cost,
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
from .cost import Cost
from .crop import crop
from .cross_entropy import cross_entropy, cross_entropy_backward, cross_entropy_cost
from .depthwise import depthwise_conv2d, depthwise_conv2d_backward, depthwise_conv2d_cost
from .distillation import distillation, distillation_backward, distillation_cost
from .dropout import dropout, dropout_backward, dropout_cost, dropout_mask
from .flatten import flatten, flatten_backward, flatten_cost
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
from .local_response_norm import (
    local_response_norm,
    local_response_norm_backward,
    local_response_norm_cost,
)
from .nms import nms, nms_cost
from .pad_end import pad_end, pad_end_backward, pad_end_cost
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
from .roi_align import (
    ps_roi_align,
    ps_roi_align_backward,
    ps_roi_align_cost,
    roi_align,
    roi_align_backward,
    roi_align_cost,
)
from .sgd import sgd_step
from .smooth_l1 import smooth_l1, smooth_l1_backward, smooth_l1_cost
