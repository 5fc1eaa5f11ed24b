// In place of the site's runtime.js: the Python of PyPI's jupyterlite-xeus-python, which needs no
// network. It has no matplotlib.

const XEUS = new URL("xeus/", import.meta.url).href;

export async function start(step, line) {
  step("fetching Python");
  const script = await (await fetch(`${XEUS}xpython_wasm.js`)).text();
  const create = (0, eval)(`${script}; createXeusModule`);
  const wasmBinary = await (await fetch(`${XEUS}xpython_wasm.wasm`)).arrayBuffer();
  const python = await create({ wasmBinary, print: line, printErr: () => {} });
  self.Module = python;
  step("fetching NumPy");
  await python.bootstrap_from_empack_packed_environment(
    `${XEUS}empack_env_meta.json`, XEUS.slice(0, -1), false,
  );
  python.exec(await (await fetch(new URL("no_matplotlib.py", import.meta.url))).text());
  return {
    run: (code) => python.exec(code),
    write: (path, bytes) => {
      python.FS.mkdirTree(path.slice(0, path.lastIndexOf("/")) || "/");
      python.FS.writeFile(path, bytes);
    },
  };
}
