// The picture of a net: every channel of every layer as a small square, and the paths between.

import { sources } from "./net.js";
import { split } from "./ops.js";

const GAP = 4,
  LABEL = 13,
  BETWEEN = 20,
  GUTTER = 210;
const LEAST = 7,
  MOST = 13; // pixels of a square
const BLUE = [0, 114, 178],
  ORANGE = [213, 94, 0];

const WORDS = {
  conv2d: "3×3 convolution",
  pointwise_conv2d: "1×1",
  depthwise_conv2d: "3×3 depthwise",
  channel_shuffle: "channel shuffle",
  concat: "concat",
  add: "add",
  avg_pool2d: "average pool",
  global_avg_pool: "global average pool",
  linear: "linear",
  image: "the picture",
};

// The layers that are drawn: an operation together with the batch norm and the ReLU behind it.
export function layers(net) {
  const place = [],
    found = [];
  net.operations.forEach((row, k) => {
    if (row.op === "batch_norm" || row.op === "relu") {
      place[k] = place[row.x[0][0]];
      found[place[k]].last = k;
      return;
    }
    place[k] = found.length;
    const inputs = row.x.map(([from]) => place[from]);
    found.push({ row, last: k, inputs, channels: row.out[2], name: name(row), readers: 0 });
    for (const input of inputs) found[input].readers += 1;
  });
  // as late as possible, so that a shortcut stands beside the layers that it passes
  for (let n = found.length - 1; n >= 0; n--) {
    found[n].level ??= 0;
    for (const i of found[n].inputs) {
      found[i].level = Math.min(found[i].level ?? 0, found[n].level - 1);
    }
  }
  const first = found[0].level;
  for (const layer of found) layer.level -= first;
  for (const join of found.filter((layer) => layer.row.op === "concat")) {
    join.inputs.forEach((n, side) => {
      for (
        let at = found[n];
        at.readers === 1 && at.inputs.length === 1;
        at = found[at.inputs[0]]
      ) {
        at.side = side ? "right" : "left";
        at.join = join;
      }
    });
  }
  return { found, place };
}

// Its place and its operation, with the library's word for which of several it is.
function name(row) {
  const where = /^(stage\d\.\d+|conv5)/.exec(row.layer)?.[0] ?? "";
  const which = /(compress|expand|branch\d)/.exec(row.layer)?.[0] ?? "";
  const groups = row.op === "pointwise_conv2d" && row.groups > 1 ? `, ${row.groups} groups` : "";
  const stride = row.op !== "avg_pool2d" && row.stride > 1 ? ", stride 2" : "";
  return [where, which, WORDS[row.op] + groups + stride].filter(Boolean).join(" ");
}

// A label for layers that stand side by side; the place that they have in common comes first.
function label(level) {
  const names = [...new Set(level.map((layer) => layer.name))];
  const where = /^stage\S+ /.exec(names[0])?.[0] ?? "";
  return names.map((one, k) => (k ? one.replace(where, "| ") : one));
}

// Give every layer its place on a canvas so many pixels wide; returns the height.
export function arrange({ found }, width) {
  const beside = width >= 560,
    room = beside ? width - GUTTER : width;
  const middle = (beside ? GUTTER : 0) + room / 2;
  const levels = [];
  for (const layer of found) (levels[layer.level] ??= []).push(layer);
  for (const level of levels) {
    const count = level.reduce((sum, layer) => sum + layer.channels, 0);
    const spare = level.reduce((sum, layer) => sum + GAP * groupsOf(layer), 0);
    const lines = Math.ceil((count * LEAST) / Math.max(LEAST, room - spare));
    for (const layer of level) layer.across = Math.ceil(layer.channels / lines);
  }
  const widest = Math.min(
    ...levels.map((level) => {
      const count = level.reduce((sum, layer) => sum + layer.across, 0);
      const spare = level.reduce((sum, layer) => sum + GAP * groupsOf(layer), 0);
      return (room - spare) / count;
    }),
  );
  const size = Math.max(LEAST - 1, Math.min(MOST, Math.floor(widest)));
  let y = 4;
  for (const level of levels) {
    for (const layer of level) {
      layer.size =
        level[0].row.op === "image" || layer.row.op === "linear" ? Math.max(size, 16) : size;
      layer.lines = Math.ceil(layer.channels / layer.across);
      layer.width = layer.across * layer.size + GAP * (Math.min(groupsOf(layer), layer.across) - 1);
      layer.height = layer.lines * layer.size;
    }
    const top = y + (beside ? 0 : LABEL);
    for (const layer of level) layer.y = top;
    y = top + Math.max(...level.map((layer) => layer.height)) + BETWEEN;
  }
  for (const level of levels) {
    const both = level.length > 1 ? level.reduce((sum, layer) => sum + layer.width, 3 * GAP) : 0;
    for (const layer of level) {
      const whole = Math.max(both, layer.join?.width ?? layer.width);
      layer.x = Math.round(
        layer.side === "left"
          ? middle - whole / 2
          : layer.side === "right"
            ? middle + whole / 2 - layer.width
            : middle - layer.width / 2,
      );
    }
  }
  return { height: y, beside, levels };
}

const groupsOf = (layer) => (layer.row.op === "pointwise_conv2d" ? layer.row.groups : 1);

// The corner of a channel's square.
export function corner(layer, c) {
  const column = c % layer.across,
    groups = groupsOf(layer);
  const group = Math.floor((c * groups) / layer.channels);
  const before = Math.floor(((c - column) * groups) / layer.channels);
  return [
    layer.x + column * layer.size + (group - before) * GAP,
    layer.y + Math.floor(c / layer.across) * layer.size,
  ];
}

// The layer and channel under a point: the nearest within reach of a finger.
export function at({ found }, x, y) {
  let best = null,
    least = 14;
  found.forEach((layer, n) => {
    if (y < layer.y - 14 || y > layer.y + layer.height + 14) return;
    for (let c = 0; c < layer.channels; c++) {
      const [left, top] = corner(layer, c),
        half = layer.size / 2;
      const away = Math.max(Math.abs(left + half - x), Math.abs(top + half - y)) - half;
      if (away < least) [best, least] = [{ layer: n, channel: c }, away];
    }
  });
  return best;
}

// Draw everything. `arrays` has what each layer shows (values or gradients; undefined: nothing),
// `lit` the set of channels of each operation that lie on a path, or null if nothing is chosen.
export function paint(canvas, net, picture, arrays, lit, chosen) {
  const scale = window.devicePixelRatio || 1,
    g = canvas.getContext("2d");
  const width = canvas.clientWidth,
    { height, beside, levels } = arrange(picture, width);
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.height = `${height}px`;
  g.setTransform(scale, 0, 0, scale, 0, 0);
  const style = getComputedStyle(canvas),
    colour = (name) => style.getPropertyValue(name).trim();
  g.fillStyle = colour("--ground");
  g.fillRect(0, 0, width, height);
  bands(g, levels, width, colour("--band"));
  if (lit) ((g.strokeStyle = colour("--path")), connections(g, net, picture, lit));
  const look = { ground: rgb(colour("--ground")), path: colour("--path"), scale };
  picture.found.forEach((layer, n) => squares(g, layer, arrays[n], lit?.[layer.last], look));
  g.font = `${beside ? 12 : 11}px system-ui, sans-serif`;
  for (const level of levels) {
    // beside the picture in two lines; above it, where lines pass behind, in one
    const words = label(level),
      lines = beside ? words : [words.join(" ")];
    const y = level[0].y + (beside ? 10 - 6 * (lines.length - 1) : -4);
    lines.forEach((text, k) => {
      g.globalAlpha = 0.8;
      g.fillStyle = colour("--ground");
      if (!beside) g.fillRect(0, y - 10, g.measureText(text).width + 6, 13);
      g.globalAlpha = 1;
      g.fillStyle = colour("--text");
      g.fillText(text, 2, y + 13 * k, beside ? GUTTER - 8 : width);
    });
  }
  if (chosen) {
    const layer = picture.found[chosen.layer],
      [x, y] = corner(layer, chosen.channel);
    g.strokeStyle = colour("--text");
    g.lineWidth = 3;
    g.strokeRect(x - 2, y - 2, layer.size + 3, layer.size + 3);
  }
}

// Draw one channel large; `values` is its layer's array.
export function enlarge(canvas, values, channel) {
  const layer = { row: {}, size: canvas.width - 1, channels: 1, across: 1, x: 1, y: 1 };
  const one = values && split(values, channel, 1);
  const style = getComputedStyle(canvas);
  const look = { ground: rgb(style.getPropertyValue("--ground").trim()), scale: 1 };
  squares(canvas.getContext("2d"), layer, one, null, look);
}

// Every other unit stands on a darker ground.
function bands(g, levels, width, colour) {
  g.fillStyle = colour;
  let last = "",
    dark = false;
  for (const level of levels) {
    const [layer] = level,
      unit = layer.row.layer.split(".").slice(0, 2).join(".");
    if (unit !== last) [last, dark] = [unit, !dark];
    const high = Math.max(...level.map((one) => one.height));
    if (dark) g.fillRect(0, layer.y - BETWEEN + 4, width, high + BETWEEN);
  }
}

function connections(g, net, { found, place }, lit) {
  for (const layer of found) {
    const lines = [];
    for (const o of lit[layer.last]) {
      for (const [from, c] of sources(layer.row, o)) {
        const [x0, y0] = corner(found[place[from]], c),
          [x1, y1] = corner(layer, o);
        const half = found[place[from]].size / 2;
        lines.push([x0 + half, y0 + half, x1 + layer.size / 2, y1 + layer.size / 2]);
      }
    }
    // a thousand lines are a surface, unless they are pale
    g.globalAlpha = Math.max(0.08, Math.min(0.9, 30 / lines.length));
    g.lineWidth = 1;
    g.beginPath();
    for (const [x0, y0, x1, y1] of lines) (g.moveTo(x0, y0), g.lineTo(x1, y1));
    g.stroke();
  }
  g.globalAlpha = 1;
}

function squares(g, layer, values, lit, { ground, path, scale }) {
  const side = Math.max(1, Math.round((layer.size - 1) * scale));
  const most = values ? values.data.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1 : 1;
  for (let c = 0; c < layer.channels; c++) {
    const [x, y] = corner(layer, c),
      on = !lit || lit.has(c);
    const image = g.createImageData(side, side);
    for (let p = 0; p < side; p++)
      for (let q = 0; q < side; q++) {
        const value = values ? sample(values, p / side, q / side, c) / most : 0;
        const strength = Math.sqrt(Math.abs(value)) * (on ? 1 : 0.2);
        const ink = value < 0 ? ORANGE : BLUE;
        for (let i = 0; i < 3; i++) {
          image.data[4 * (p * side + q) + i] = ground[i] + (ink[i] - ground[i]) * strength;
        }
        image.data[4 * (p * side + q) + 3] = 255;
      }
    g.putImageData(image, Math.round(x * scale), Math.round(y * scale));
    g.globalAlpha = on ? 1 : 0.25;
    g.lineWidth = 1;
    g.strokeStyle = lit && on ? path : "#888";
    g.strokeRect(x - 0.5, y - 0.5, layer.size, layer.size);
    g.globalAlpha = 1;
  }
}

const sample = ({ h, w, c: channels, data }, p, q, c) =>
  data[(Math.floor(p * h) * w + Math.floor(q * w)) * channels + c];

function rgb(hex) {
  const long = hex.length === 4 ? hex.replace(/[^#]/g, "$&$&") : hex;
  return [1, 3, 5].map((k) => parseInt(long.slice(k, k + 2), 16));
}
