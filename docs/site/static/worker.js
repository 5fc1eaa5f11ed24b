// A web worker in which the cells of a page run, so that the page stays alive and can stop them.
//
// It is sent {progress} once, the stored progress of the course or null, and then {number, code,
// progress} for each cell, as another page may have noted more meanwhile. It answers with {step}
// while Python loads, {ready}, or {failed} with a sentence; and for a cell with the lines that
// kernel.py says.

import { start } from "./runtime.js";

const PROGRESS = "/home/student/.tinyshuffle-course.json";
let python;

// No promise: the page hears of what is thrown here as the worker's error, of a rejection nothing.
self.onmessage = ({ data }) => {
  if (!("code" in data)) {
    begin(data.progress);
    return;
  }
  note(data.progress);
  python.run(`run(${data.number}, ${JSON.stringify(data.code)})`);
};

async function begin(progress) {
  try {
    python = await start((step) => self.postMessage({ step }), heard);
    self.postMessage({ step: "fetching the library" });
    python.write("/library.zip", await fetched("tinyshuffle.zip"));
    python.run("import zipfile; zipfile.ZipFile('/library.zip').extractall('/library')");
    note(progress);
    python.run(new TextDecoder().decode(await fetched("kernel.py")));
    self.postMessage({ ready: true });
  } catch (error) {
    self.postMessage({ failed: error.message ?? String(error) });
  }
}

function note(progress) {
  if (progress) python.write(PROGRESS, new TextEncoder().encode(progress));
}

function heard(line) {
  try {
    self.postMessage(JSON.parse(line));
  } catch {
    // not a line of kernel.py
  }
}

async function fetched(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} cannot be fetched: reload the page, and try again.`);
  return new Uint8Array(await answer.arrayBuffer());
}
