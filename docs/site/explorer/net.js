// A net: its operations run forward, backward, and followed channel by channel.
//
// nets.json lists the operations of each net as tinyshuffle traced them: `x` says what one reads
// ([operation, first channel, channels] each), `out` is (h, w, c). Operation 0 is the picture.

import * as ops from "./ops.js";

// Return a file of this page, or throw what is wrong with it: a page that says "not found" is none.
export async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} cannot be fetched: ${answer.status}`);
  return answer;
}

export async function load() {
  const [table, bytes] = await Promise.all([
    fetched("nets.json").then((answer) => answer.json()),
    fetched("weights.bin").then((answer) => answer.arrayBuffer()),
  ]);
  const numbers = halves(new Uint16Array(bytes));
  for (const net of Object.values(table.nets)) {
    let place = net.start;
    for (const row of net.operations) {
      row.arrays = weightSizes(row).map((size) => numbers.subarray(place, (place += size)));
      row.how = { ...ops.POINTWISE, ...row };
    }
  }
  return table;
}

// float16 as numbers: sign, five bits of exponent, ten of fraction
function halves(words) {
  return Float32Array.from(words, (word) => {
    const exponent = (word >> 10) & 31,
      fraction = word & 1023;
    const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    return word & 0x8000 ? -size : size;
  });
}

function weightSizes(row) {
  const inputs = row.x[0]?.[2],
    outputs = row.out[2],
    kernel = row.kernel ?? 1;
  switch (row.op) {
    case "conv2d":
      return [kernel * kernel * inputs * outputs];
    case "pointwise_conv2d":
      return [(inputs / row.groups) * outputs];
    case "depthwise_conv2d":
      return [kernel * kernel * outputs];
    case "linear":
      return [inputs * outputs, outputs];
    case "batch_norm":
      return [outputs, outputs, outputs, outputs]; // γ, β, μ, σ²
    default:
      return [];
  }
}

const read = (values, [row, first, count]) =>
  count === values[row].c ? values[row] : ops.split(values[row], first, count);

// Return what every operation makes of a picture, {h, w, c, data}.
export function forward(net, picture) {
  const values = [picture];
  for (const row of net.operations.slice(1)) {
    const [x, ...others] = row.x.map((part) => read(values, part));
    const [w, b, mean, variance] = row.arrays;
    values.push(
      row.op === "conv2d" || row.op === "pointwise_conv2d"
        ? ops.conv2d(x, w, row.how, row.out)
        : row.op === "depthwise_conv2d"
          ? ops.depthwiseConv2d(x, w, row.how, row.out)
          : row.op === "batch_norm"
            ? ops.batchNorm(x, w, b, mean, variance)
            : row.op === "relu"
              ? ops.relu(x)
              : row.op === "channel_shuffle"
                ? ops.channelShuffle(x, row.groups)
                : row.op === "concat"
                  ? ops.concat([x, ...others])
                  : row.op === "add"
                    ? ops.add(x, others[0])
                    : row.op === "avg_pool2d"
                      ? ops.avgPool2d(x, row.how, row.out)
                      : row.op === "global_avg_pool"
                        ? ops.globalAvgPool(x)
                        : ops.linear(x, w, b, row.out),
    );
  }
  return values;
}

// Return the gradient of every operation's result, given `dy`, that of operation `start`'s.
// What `start` does not depend on has no entry.
export function backward(net, values, start, dy) {
  const gradients = [];
  gradients[start] = dy;
  for (let k = start; k > 0; k--) {
    if (!gradients[k]) continue;
    const row = net.operations[k],
      parts = inputGradients(row, gradients[k], values, k);
    row.x.forEach((part, i) => accumulate(gradients, part, parts[i], values));
  }
  return gradients;
}

function inputGradients(row, dy, values, k) {
  const x = read(values, row.x[0]),
    [w, , , variance] = row.arrays;
  switch (row.op) {
    case "conv2d":
    case "pointwise_conv2d":
      return [ops.conv2dBackward(dy, x, w, row.how)];
    case "depthwise_conv2d":
      return [ops.depthwiseConv2dBackward(dy, x, w, row.how)];
    case "batch_norm":
      return [ops.batchNormBackward(dy, w, variance)];
    case "relu":
      return [ops.reluBackward(dy, values[k])];
    case "channel_shuffle":
      return [ops.channelShuffleBackward(dy, row.groups)];
    case "add":
      return [dy, dy];
    case "avg_pool2d":
      return [ops.avgPool2dBackward(dy, x, row.how)];
    case "global_avg_pool":
      return [ops.globalAvgPoolBackward(dy, x)];
    case "linear":
      return [ops.linearBackward(dy, x, w)];
    case "concat": {
      let first = 0;
      return row.x.map(([, , count]) => ops.split(dy, first, count, (first += count)));
    }
  }
}

// What is read twice gets two gradients, which add up.
function accumulate(gradients, [row, first, count], dx, values) {
  const { h, w, c } = values[row];
  gradients[row] ??= ops.array(h, w, c);
  for (let k = 0; k < dx.data.length; k++) {
    gradients[row].data[Math.floor(k / count) * c + first + (k % count)] += dx.data[k];
  }
}

// Return what channel `o` of an operation is computed from: pairs (operation, channel).
export function sources(row, o) {
  const channels = ([from, first], numbers) => numbers.map((c) => [from, first + c]);
  const range = (first, count) => Array.from({ length: count }, (_, c) => first + c);
  const [x] = row.x;
  switch (row.op) {
    case "image":
      return [];
    case "conv2d":
    case "linear":
      return channels(x, range(0, x[2]));
    case "pointwise_conv2d": {
      const group = Math.floor(o / (row.out[2] / row.groups)),
        size = x[2] / row.groups;
      return channels(x, range(group * size, size));
    }
    case "channel_shuffle":
      return channels(x, [ops.shuffled(o, x[2], row.groups)]);
    case "concat": {
      let first = 0;
      for (const part of row.x) {
        if (o < first + part[2]) return channels(part, [o - first]);
        first += part[2];
      }
      return [];
    }
    default:
      return row.x.flatMap((part) => channels(part, [o])); // add has two, the others one
  }
}

// Return, for every operation, which of its channels lie on a path to channel `o` of `start`.
export function paths(net, start, o) {
  const lit = net.operations.map(() => new Set());
  lit[start].add(o);
  for (let k = start; k > 0; k--) {
    for (const channel of lit[k]) {
      for (const [row, c] of sources(net.operations[k], channel)) lit[row].add(c);
    }
  }
  return lit;
}
