// A web worker in which the cells of a page run, so that the page stays alive and can stop them.
//
// It is sent {progress} once, the stored progress of the course or null, and then {number, code}
// for each cell. It answers with {step} while Python loads, {ready}, or {failed} with a sentence;
// and for a cell with the lines that kernel.py says.

import { start } from "./runtime.js";

const PROGRESS = "/home/student/.tinyshuffle-course.json";
let python;

self.onmessage = async ({ data }) => {
  if ("code" in data) {
    python.run(`run(${data.number}, ${JSON.stringify(data.code)})`);
    return;
  }
  try {
    python = await start((step) => self.postMessage({ step }), heard);
    self.postMessage({ step: "fetching the library" });
    python.write("/library.zip", await fetched("tinyshuffle.zip"));
    python.run("import zipfile; zipfile.ZipFile('/library.zip').extractall('/library')");
    if (data.progress) python.write(PROGRESS, new TextEncoder().encode(data.progress));
    python.run(new TextDecoder().decode(await fetched("kernel.py")));
    self.postMessage({ ready: true });
  } catch (error) {
    self.postMessage({ failed: error.message ?? String(error) });
  }
};

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
