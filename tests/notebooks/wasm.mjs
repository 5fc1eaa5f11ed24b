// Python as WebAssembly in node: node wasm.mjs RUNTIME PROGRAM [FILE=PLACE | FOLDER=PLACE]...
//
// RUNTIME is the folder of xpython_wasm.js, from PyPI's jupyterlite-xeus-python. What is named
// FOLDER=PLACE is copied into the file system that this Python sees; then PROGRAM runs there.

import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const [runtime, program, ...copies] = process.argv.slice(2);
const script = path.join(runtime, "xpython_wasm.js");

// the runtime was written for a web worker: it looks for these, and tells what it unpacks
globalThis.require = createRequire(import.meta.url);
globalThis.__dirname = runtime;
globalThis.fetch = async (name) => new Response(fs.readFileSync(path.resolve(runtime, name)));
console.log = console.debug = () => {};

const create = (0, eval)(fs.readFileSync(script, "utf8") + "; createXeusModule");
const python = await create({
  wasmBinary: fs.readFileSync(path.join(runtime, "xpython_wasm.wasm")),
  print: (line) => fs.writeSync(1, line + "\n"),
  printErr: (line) => fs.writeSync(2, line + "\n"),
});
globalThis.Module = python;
await python.bootstrap_from_empack_packed_environment("empack_env_meta.json", ".", false);

function copy(from, to) {
  if (!fs.statSync(from).isDirectory()) {
    python.FS.mkdirTree(path.posix.dirname(to));
    python.FS.writeFile(to, fs.readFileSync(from));
    return;
  }
  python.FS.mkdirTree(to);
  for (const name of fs.readdirSync(from)) {
    if (name !== "__pycache__") copy(path.join(from, name), `${to}/${name}`);
  }
}
for (const pair of copies) copy(...pair.split("="));

try {
  python.exec(fs.readFileSync(program, "utf8"));
} catch (error) {
  console.error(typeof error === "number" ? python.get_exception_message(error) : error);
  process.exit(1);
}
process.exit(0);
