// The operations of the nets, as in tinyshuffle/ops: one function forward, one backward.
//
// An array is one picture's: {h, w, c, data} with data in the order (h, w, c), which is the
// library's (N, H, W, C) for N = 1. Weights are laid out as the library's. Batch norm is the
// evaluation's, which takes mean and variance as constants. Nothing here learns, so a backward
// returns dx alone.

export function array(h, w, c) {
  return { h, w, c, data: new Float32Array(h * w * c) };
}

const like = (x) => array(x.h, x.w, x.c);

// Visit each (output pixel, input pixel, tap) of a window; padding is left out. Places are the
// numbers of pixels, and a tap's is i·kernel + j.
function windows(x, y, { kernel, stride, padding }, visit) {
  for (let p = 0; p < y.h; p++)
    for (let q = 0; q < y.w; q++) {
      for (let i = 0; i < kernel; i++)
        for (let j = 0; j < kernel; j++) {
          const row = p * stride + i - padding,
            column = q * stride + j - padding;
          if (row < 0 || row >= x.h || column < 0 || column >= x.w) continue;
          visit(p * y.w + q, row * x.w + column, i * kernel + j);
        }
    }
}

// y[p, o] = Σ x[tap, c] · w[tap, c, o] over the channels c of o's group; w is (K, K, C/groups, O)
export function conv2d(x, w, how, out) {
  const y = array(...out),
    cg = x.c / how.groups,
    og = y.c / how.groups;
  windows(x, y, how, (to, from, tap) => {
    for (let c = 0; c < x.c; c++) {
      const group = Math.floor(c / cg),
        value = x.data[from * x.c + c];
      const row = (tap * cg + (c % cg)) * y.c + group * og,
        base = to * y.c + group * og;
      for (let o = 0; o < og; o++) y.data[base + o] += value * w[row + o];
    }
  });
  return y;
}

// dx[tap, c] = Σ dy[p, o] · w[tap, c, o]: the same paths, walked the other way
export function conv2dBackward(dy, x, w, how) {
  const dx = like(x),
    cg = x.c / how.groups,
    og = dy.c / how.groups;
  windows(x, dy, how, (to, from, tap) => {
    for (let c = 0; c < x.c; c++) {
      const group = Math.floor(c / cg);
      const row = (tap * cg + (c % cg)) * dy.c + group * og,
        base = to * dy.c + group * og;
      let sum = 0;
      for (let o = 0; o < og; o++) sum += dy.data[base + o] * w[row + o];
      dx.data[from * x.c + c] += sum;
    }
  });
  return dx;
}

// each channel on its own: y[p, c] = Σ x[tap, c] · w[tap, c]
export function depthwiseConv2d(x, w, how, out) {
  const y = array(...out);
  windows(x, y, how, (to, from, tap) => {
    for (let c = 0; c < x.c; c++) y.data[to * x.c + c] += x.data[from * x.c + c] * w[tap * x.c + c];
  });
  return y;
}

export function depthwiseConv2dBackward(dy, x, w, how) {
  const dx = like(x);
  windows(x, dy, how, (to, from, tap) => {
    for (let c = 0; c < x.c; c++)
      dx.data[from * x.c + c] += dy.data[to * x.c + c] * w[tap * x.c + c];
  });
  return dx;
}

// y = γ (x - μ) / √(σ² + ε) + β
export function batchNorm(x, gamma, beta, mean, variance) {
  const y = like(x);
  for (let c = 0; c < x.c; c++) {
    const scale = gamma[c] / Math.sqrt(variance[c] + 1e-5);
    for (let k = c; k < x.data.length; k += x.c)
      y.data[k] = (x.data[k] - mean[c]) * scale + beta[c];
  }
  return y;
}

export function batchNormBackward(dy, gamma, variance) {
  const dx = like(dy);
  for (let c = 0; c < dy.c; c++) {
    const scale = gamma[c] / Math.sqrt(variance[c] + 1e-5);
    for (let k = c; k < dy.data.length; k += dy.c) dx.data[k] = dy.data[k] * scale;
  }
  return dx;
}

export function relu(x) {
  return { ...x, data: x.data.map((value) => Math.max(0, value)) };
}

export function reluBackward(dy, y) {
  return { ...dy, data: dy.data.map((value, k) => (y.data[k] > 0 ? value : 0)) };
}

// output channel j·G + g is input channel g·n + j
export function shuffled(channel, channels, groups) {
  return (channel % groups) * (channels / groups) + Math.floor(channel / groups);
}

export function channelShuffle(x, groups) {
  const y = like(x);
  for (let k = 0; k < x.data.length; k++) {
    const c = k % x.c;
    y.data[k] = x.data[k - c + shuffled(c, x.c, groups)];
  }
  return y;
}

// a permutation's gradient is its inverse: the shuffle with C / groups groups
export function channelShuffleBackward(dy, groups) {
  return channelShuffle(dy, dy.c / groups);
}

export function split(x, first, count) {
  const y = array(x.h, x.w, count);
  for (let k = 0; k < x.h * x.w; k++) {
    y.data.set(x.data.subarray(k * x.c + first, k * x.c + first + count), k * count);
  }
  return y;
}

export function concat(parts) {
  const y = array(
    parts[0].h,
    parts[0].w,
    parts.reduce((sum, x) => sum + x.c, 0),
  );
  let first = 0;
  for (const x of parts) {
    for (let k = 0; k < x.h * x.w; k++) {
      y.data.set(x.data.subarray(k * x.c, (k + 1) * x.c), k * y.c + first);
    }
    first += x.c;
  }
  return y;
}

export function add(a, b) {
  return { ...a, data: a.data.map((value, k) => value + b.data[k]) };
}

// the mean of each window; padding counts as zeros
export function avgPool2d(x, how, out) {
  const y = array(...out),
    share = 1 / how.kernel ** 2;
  windows(x, y, how, (to, from) => {
    for (let c = 0; c < x.c; c++) y.data[to * x.c + c] += x.data[from * x.c + c] * share;
  });
  return y;
}

export function avgPool2dBackward(dy, x, how) {
  const dx = like(x),
    share = 1 / how.kernel ** 2;
  windows(x, dy, how, (to, from) => {
    for (let c = 0; c < x.c; c++) dx.data[from * x.c + c] += dy.data[to * x.c + c] * share;
  });
  return dx;
}

export function globalAvgPool(x) {
  const y = array(1, 1, x.c);
  for (let k = 0; k < x.data.length; k++) y.data[k % x.c] += x.data[k] / (x.h * x.w);
  return y;
}

export function globalAvgPoolBackward(dy, x) {
  const dx = like(x);
  for (let k = 0; k < dx.data.length; k++) dx.data[k] = dy.data[k % x.c] / (x.h * x.w);
  return dx;
}

// a linear layer is a 1x1 convolution of one pixel, and a bias
export function linear(x, w, b, out) {
  return add(conv2d(x, w, POINTWISE, out), { data: b });
}

export function linearBackward(dy, x, w) {
  return conv2dBackward(dy, x, w, POINTWISE);
}

export const POINTWISE = { kernel: 1, stride: 1, padding: 0, groups: 1 };

export function softmax(logits) {
  const most = Math.max(...logits);
  const e = Array.from(logits, (value) => Math.exp(value - most));
  const sum = e.reduce((a, b) => a + b);
  return e.map((value) => value / sum);
}
