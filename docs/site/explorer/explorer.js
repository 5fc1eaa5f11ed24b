// The page: switches, the picture that goes in, what is said about a channel, and the way back.

import * as costs from "./costs.js";
import { array, softmax } from "./ops.js";
import { backward, forward, load, paths } from "./net.js";
import * as picture from "./picture.js";

const $ = (id) => document.getElementById(id);
const SIDE = 32,
  ZOOM = 8,
  PAUSE = 350; // pixels of a picture, of one of them, ms a layer
const still = matchMedia("(prefers-reduced-motion: reduce)");

// All that is shown follows from this. `chosen` is {layer, channel}; `gradients` are there while dy
// is shown, which has come back as far as level `reached`.
export const state = {
  table: null,
  name: "",
  net: null,
  drawn: null,
  values: null,
  chosen: null,
  held: false,
  lit: null,
  gradients: null,
  reached: 0,
};

// ---- which net

function choose() {
  const form = new FormData($("switches")),
    version = +form.get("version");
  const box = $("switches").elements.shuffle,
    groups = version === 1 ? +$("switches").elements.groups.value : 1;
  $("groups").disabled = version === 2;
  box.disabled = version === 1 && groups === 1;
  const shuffle = box.disabled || box.checked,
    width = form.get("width");
  $("why").textContent =
    version === 2
      ? shuffle
        ? "V2 has no groups: half of the channels pass a unit untouched."
        : "Without the shuffle the same half of the channels passes all units of a stage untouched."
      : groups === 1
        ? "With one group every channel sees all, and there is nothing to shuffle."
        : shuffle
          ? "The shuffle deals each group's channels out to all groups."
          : "Without the shuffle a group only ever talks to itself: watch the paths.";
  const [name, net] = Object.entries(state.table.nets).find(
    ([, net]) =>
      net.version === version &&
      net.groups === groups &&
      net.shuffle === shuffle &&
      net.width === width,
  );
  const before = state.drawn?.found[state.chosen?.layer].row;
  Object.assign(state, { name, net, drawn: picture.layers(net) });
  const { found } = state.drawn;
  const same = found.findIndex(({ row }) => row.layer === before?.layer && row.op === before.op);
  // to begin with, a layer whose paths show what the groups and the shuffle do
  const last = found.findLastIndex(({ row }) => /^stage3/.test(row.layer) && row.op !== "add");
  const layer = same >= 0 ? same : last;
  const { channels } = state.drawn.found[layer];
  state.chosen = { layer, channel: Math.min(state.chosen?.channel ?? 1, channels - 1) };
  run();
  costs.show($("costs"), state.name);
}

// ---- what goes in, what comes out

export function input() {
  const pixels = $("pad")
    .getContext("2d")
    .getImageData(0, 0, SIDE * ZOOM, SIDE * ZOOM).data;
  const x = array(SIDE, SIDE, 3),
    { mean, std } = state.table;
  const sums = new Float64Array(x.data.length); // the mean of each pixel's 8x8 points
  for (let p = 0; p < SIDE * ZOOM; p++)
    for (let q = 0; q < SIDE * ZOOM; q++) {
      const to = 3 * (Math.floor(p / ZOOM) * SIDE + Math.floor(q / ZOOM));
      for (let c = 0; c < 3; c++) sums[to + c] += pixels[4 * (p * SIDE * ZOOM + q) + c];
    }
  sums.forEach((sum, k) => {
    x.data[k] = (Math.round(sum / ZOOM ** 2) / 255 - mean[k % 3]) / std[k % 3];
  });
  return x;
}

function run() {
  state.values = forward(state.net, input());
  const chances = softmax(state.values.at(-1).data);
  const order = chances
    .map((_, k) => k)
    .sort((a, b) => chances[b] - chances[a])
    .slice(0, 3);
  $("answers").innerHTML = order
    .map((k) => {
      const percent = Math.round(100 * chances[k]);
      const bar = `<span style="width:${percent}%"></span>`;
      return `<li>${bar}${state.table.classes[k]}: ${percent} %</li>`;
    })
    .join("");
  $("accuracy").textContent =
    `This net is right about ${(100 * state.net.accuracy).toFixed(0)} % of 2,000 test pictures.`;
  select(state.chosen.layer, state.chosen.channel);
}

// ---- a channel and its paths

export function select(layer, channel) {
  stop();
  state.chosen = { layer, channel };
  const { last, row, name, channels } = state.drawn.found[layer];
  state.lit = paths(state.net, last, channel);
  const shown =
    row.op === "linear"
      ? `class “${state.table.classes[channel]}”`
      : `channel ${channel + 1} of ${channels}`;
  $("said").textContent = `${name}, ${shown}. ${reach()}`;
  show();
}

function reach() {
  const { found } = state.drawn,
    layer = found[state.chosen.layer];
  const count = (one) => `${state.lit[one.last].size} of the ${one.channels} of ${one.name}`;
  if (layer.row.op === "image") return "This is the picture itself.";
  const parts = [...new Set(layer.inputs)].map((n) => count(found[n]));
  const stage = /^stage(\d)/.exec(layer.row.layer)?.[1];
  if (stage) {
    const start = found.findIndex((one) => one.row.layer.startsWith(`stage${stage}`));
    const before = found[Math.max(...found[start].inputs)];
    if (!layer.inputs.includes(found.indexOf(before)))
      parts.push(`and so from ${count(before)}, where stage ${stage} begins`);
  }
  return `It is computed from ${parts.join(", ")}.`;
}

function show() {
  const arrays = state.drawn.found.map(({ last, level }) =>
    !state.gradients
      ? state.values[last]
      : level >= state.reached
        ? state.gradients[last]
        : undefined,
  );
  const { layer, channel } = state.chosen;
  picture.enlarge($("large"), arrays[layer], channel);
  picture.paint($("channels"), state.net, state.drawn, arrays, state.lit, state.chosen);
  costs.roof($("roof"), $("machine"), state.name, state.drawn.found[layer].row.layer);
}

// ---- backwards

const WHY = {
  linear: "each channel gets dy times its own weight",
  global_avg_pool: "every pixel gets the same share of dy",
  conv2d: "dy goes to all channels, through the same weights",
  pointwise_conv2d: "dy goes to the channels of its own group, through the same weights",
  channel_shuffle: "dy is shuffled once more, which puts every channel back where it came from",
  depthwise_conv2d: "dy stays in its channel, and spreads over 3×3 pixels",
  concat: "dy is cut into the parts that were put side by side",
  add: "dy goes both ways unchanged, and where the ways meet again they add up",
  avg_pool2d: "each pixel of a window gets a ninth of dy",
};

export function step() {
  const { found } = state.drawn,
    { layer, channel } = state.chosen,
    start = found[layer];
  if (!state.gradients) {
    const { h, w, c } = state.values[start.last],
      dy = array(h, w, c);
    for (let k = channel; k < dy.data.length; k += c) dy.data[k] = 1;
    state.gradients = backward(state.net, state.values, start.last, dy);
    state.reached = start.level;
    $("said").textContent =
      `dy begins as 1 at every pixel of ${start.name}, channel ${channel + 1}.`;
  } else if (state.reached > 0) {
    const passed = found.filter((one) => one.level === state.reached && state.gradients[one.last]);
    state.reached -= 1;
    const words = passed.map((one) => `${one.name}: ${WHY[one.row.op]}`);
    $("said").textContent = `Back through ${words.join("; ")}.`;
    if (state.reached === 0) {
      const some = state.gradients[0].data.some((value) => value !== 0);
      $("said").textContent = some
        ? "dy has arrived at the picture, on the paths that were lit: more in a blue pixel would " +
          "raise the channel, more in an orange one lower it."
        : "Nothing arrives: a ReLU on the way is 0 at every pixel of this picture, and lets no " +
          "dy through.";
    }
  }
  $("values").hidden = false;
  show();
  follow(state.reached);
  return state.reached > 0;
}

// Scroll to the layers of a level, unless they are in the window.
function follow(level) {
  const tops = state.drawn.found.filter((one) => one.level === level).map((one) => one.y);
  const top = $("channels").getBoundingClientRect().top + Math.min(...tops);
  if (top > 40 && top < innerHeight - $("bar").offsetHeight - 40) return;
  scrollBy({ top: top - innerHeight / 3, behavior: still.matches ? "instant" : "smooth" });
}

let timer = 0;

function play() {
  stop();
  if (still.matches) {
    while (step());
    return;
  }
  const next = () => (timer = step() ? setTimeout(next, PAUSE) : 0);
  next();
}

function stop() {
  clearTimeout(timer);
  state.gradients = null;
  $("values").hidden = true;
}

// ---- pointer and keyboard

function listen() {
  const canvas = $("channels");
  const point = (event) => picture.at(state.drawn, event.offsetX, event.offsetY);
  canvas.addEventListener("pointermove", (event) => {
    const free = event.pointerType !== "mouse" || !state.held; // a finger chooses as it slides
    const found = free && point(event);
    const { layer, channel } = state.chosen;
    if (found && (found.layer !== layer || found.channel !== channel))
      select(found.layer, found.channel);
  });
  canvas.addEventListener("click", (event) => {
    const found = point(event);
    state.held = Boolean(found);
    if (found) select(found.layer, found.channel);
  });
  canvas.addEventListener("keydown", (event) => {
    const { layer, channel } = state.chosen,
      { found } = state.drawn;
    const last = found[layer].channels - 1;
    const to = {
      ArrowLeft: [layer, channel - 1],
      ArrowRight: [layer, channel + 1],
      Home: [layer, 0],
      End: [layer, last],
      ArrowUp: [layer - 1, channel],
      ArrowDown: [layer + 1, channel],
    }[event.key];
    if (event.key === "Enter") play();
    if (event.key === "Escape") state.held = false;
    if (!to) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(found.length - 1, to[0]));
    select(next, Math.max(0, Math.min(found[next].channels - 1, to[1])));
    follow(found[next].level);
    state.held = true;
  });
  $("play").addEventListener("click", play);
  $("step").addEventListener("click", () => (clearTimeout(timer), step()));
  $("values").addEventListener("click", () => select(state.chosen.layer, state.chosen.channel));
  $("switches").addEventListener("change", choose);
  $("machines").addEventListener("change", show);
  new ResizeObserver(show).observe(canvas.parentElement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
}

// ---- pictures: of the test set, drawn, or the reader's own

function draw(source, ...from) {
  const g = $("pad").getContext("2d", { willReadFrequently: true });
  g.fillStyle = $("ground").value; // behind what a picture leaves transparent
  g.fillRect(0, 0, SIDE * ZOOM, SIDE * ZOOM);
  g.imageSmoothingEnabled = source.width !== 10 * SIDE;
  g.drawImage(source, ...from, 0, 0, SIDE * ZOOM, SIDE * ZOOM);
}

async function samples() {
  const strip = new Image();
  strip.src = "pictures.png";
  await strip.decode();
  state.table.classes.forEach((name, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.ariaLabel = name;
    button.title = name;
    button.style.backgroundPosition = `${-48 * k}px 0`;
    button.addEventListener(
      "click",
      () => (draw(strip, SIDE * k, 0, SIDE, SIDE), press(button), run()),
    );
    $("samples").append(button);
  });
  draw(strip, SIDE * 6, 0, SIDE, SIDE); // the cross, which most of the nets know
  press($("samples").children[6]);
}

function press(button) {
  for (const other of $("samples").children) other.ariaPressed = String(other === button);
}

function pad() {
  const canvas = $("pad"),
    g = canvas.getContext("2d", { willReadFrequently: true });
  let outline = null;
  const clear = () => {
    g.fillStyle = $("ground").value;
    g.fillRect(0, 0, SIDE * ZOOM, SIDE * ZOOM);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if ($("samples").querySelector("[aria-pressed=true]")) (press(null), clear());
    canvas.setPointerCapture(event.pointerId);
    outline = [[event.offsetX, event.offsetY]];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!outline) return;
    outline.push([event.offsetX, event.offsetY]);
    const [a, b] = outline.slice(-2);
    g.strokeStyle = $("ink").value;
    g.lineWidth = 6;
    g.lineCap = "round";
    g.beginPath();
    g.moveTo(...a);
    g.lineTo(...b);
    g.stroke();
  });
  canvas.addEventListener("pointerup", () => {
    if (!outline) return;
    g.fillStyle = $("ink").value;
    g.beginPath();
    outline.forEach((point, k) => (k ? g.lineTo(...point) : g.moveTo(...point)));
    g.fill();
    outline = null;
    run();
  });
  canvas.addEventListener("pointercancel", () => (outline = null));
  $("clear").addEventListener("click", () => (press(null), clear(), run()));
  $("file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    try {
      const own = await createImageBitmap(file),
        side = Math.min(own.width, own.height);
      draw(own, (own.width - side) / 2, (own.height - side) / 2, side, side);
      press(null);
      run();
    } catch {
      $("answers").textContent =
        "This file is no picture that the browser can read: choose a PNG or a JPEG.";
    }
  });
}

try {
  state.table = await load();
  await costs.load($("machines"));
  await samples();
} catch (error) {
  $("missing").hidden = false;
  throw error; // the console has what is missing
}
$("classes").textContent = state.table.classes.join(", ");
pad();
choose();
listen();
document.body.dataset.ready = "yes";
