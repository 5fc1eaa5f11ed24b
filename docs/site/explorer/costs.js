// What a net costs, as costs.py counted it with tinyshuffle.cost, and the roofline of a machine.

import { fetched } from "./net.js";

let known;

export async function load(fieldset) {
  known = await (await fetched("costs.json")).json();
  fieldset.insertAdjacentHTML(
    "beforeend",
    Object.keys(known.machines)
      .map(
        (name, k) =>
          `<label><input type="radio" name="machine" value="${name}"` +
          `${k ? "" : " checked"}> ${name}</label>`,
      )
      .join(""),
  );
}

const count = (n) =>
  n >= 1e6 ? `${(n / 1e6).toPrecision(3)} M` : n >= 1e3 ? `${(n / 1e3).toPrecision(3)} k` : `${n}`;
const time = (s) =>
  s >= 1e-3 ? `${(1e3 * s).toPrecision(3)} ms` : `${(1e6 * s).toPrecision(3)} µs`;

// shufflenet_v1_x0_5_g3 as the paper writes it
const called = (name) =>
  name
    .replace(/shufflenet_v(.)_x(.)_(.)/, "ShuffleNet V$1 $2.$3x")
    .replace(/_g(.)/, ", g = $1")
    .replace(".0x", "x");

export function show(table, name) {
  const { small, paper } = known.nets[name];
  const row = (words, cell) =>
    `<tr><th scope="row">${words}</th><td>${cell(small)}</td><td>${cell(paper)}</td></tr>`;
  table.innerHTML =
    `<thead><tr><td></td><th scope="col">this net, 32×32</th>
    <th scope="col">${called(paper.name)}, 224×224</th></tr></thead><tbody>` +
    row("multiply–adds", (net) => count(net.multiply_adds)) +
    row("parameters", (net) => count(net.params)) +
    row("bytes moved", (net) => count(net.bytes)) +
    Object.keys(known.machines)
      .map((m) => row(`${m}, at least`, (net) => time(net.seconds[m])))
      .join("") +
    "</tbody>";
}

// Draw the roof of the chosen machine, a dot for each layer of the net, a large one for the layer
// that is looked at, and a square for the whole net.
export function roof(svg, words, name, chosen) {
  const machine = document.querySelector("[name=machine]:checked").value;
  const { peak, bandwidth, name: title } = known.machines[machine];
  const adds = peak / 2,
    reachable = (i) => Math.min(adds, i * bandwidth);
  const left = Math.log10(0.02),
    right = Math.log10(100),
    top = Math.log10(adds) + 0.3,
    low = top - 3.7;
  const x = (i) => 46 + ((Math.log10(Math.max(i, 0.02)) - left) / (right - left)) * 304;
  const y = (speed) => 220 - ((Math.log10(speed) - low) / (top - low)) * 205;
  const rows = known.nets[name].small.rows.filter(([, products]) => products > 0);
  const dot = ([, products, bytes], style, r) => {
    const i = products / bytes;
    return `<circle class="${style}" cx="${x(i)}" cy="${y(reachable(i))}" r="${r}"></circle>`;
  };
  const { multiply_adds: total, bytes, seconds } = known.nets[name].small;
  const whole = [x(total / bytes), y(total / seconds[machine])];
  const looked = rows.find(([layer]) => layer === chosen);
  const ridge = adds / bandwidth;
  const corners = [0.02, ridge, 100].map((i) => `${x(i)},${y(reachable(i))}`).join(" ");
  const tick = (i) => `<text x="${x(i)}" y="236" text-anchor="middle">${i}</text>`;
  const speed = (s) =>
    `<text x="42" y="${y(s) + 4}" text-anchor="end">${+(s / 1e9).toPrecision(1)}</text>`;
  const decades = Array.from({ length: 4 }, (_, k) => 10 ** (Math.floor(top) - k)).filter(
    (s) => Math.log10(s) > low,
  );
  svg.innerHTML = `
    <polyline class="roof" points="${corners}"></polyline>
    ${rows.map((row) => dot(row, "layer", 4)).join("")}
    <rect class="whole" x="${whole[0] - 6}" y="${whole[1] - 6}" width="12" height="12"></rect>
    ${looked ? dot(looked, "chosen", 8) : ""}
    ${[0.1, 1, 10, 100].map(tick).join("")}${decades.map(speed).join("")}
    <text x="198" y="254" text-anchor="middle">multiply–adds a byte</text>
    <text x="46" y="10">multiply–adds a nanosecond</text>`;
  const waiting = rows.filter(([, products, moved]) => products / moved < ridge).length;
  const here = looked
    ? ` The ring: ${chosen}, ${(looked[1] / looked[2]).toFixed(1)} multiply–adds a byte.`
    : " The layer that you look at multiplies nothing: it has no dot, and only moves bytes.";
  words.textContent =
    `${title}: ${peak / 1e9} GFLOP/s, ${bandwidth / 1e9} GB/s. A dot is a layer of this net, ` +
    `the square is the whole. ${waiting} of ${rows.length} layers wait for memory (left of the ` +
    `ridge).${here}`;
  svg.setAttribute("aria-label", words.textContent);
}
