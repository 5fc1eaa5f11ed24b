// The Python of the pages: Pyodide, which is fetched when a reader first runs a cell.

const PYODIDE = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/";

// Start Python. `step` is told what is being done, `line` is given each line that Python prints.
export async function start(step, line) {
  step("fetching Python, some megabytes");
  let pyodide;
  try {
    pyodide = await import(`${PYODIDE}pyodide.mjs`);
  } catch {
    throw new Error(`Python cannot be fetched from ${PYODIDE}: run this again when online.`);
  }
  const python = await pyodide.loadPyodide({ indexURL: PYODIDE, stdout: line, stderr: () => {} });
  step("fetching NumPy and matplotlib");
  await python.loadPackage(["numpy", "matplotlib", "rich"], { messageCallback: () => {} });
  return {
    run: (code) => python.runPython(code),
    write: (path, bytes) => {
      python.FS.mkdirTree(path.slice(0, path.lastIndexOf("/")));
      python.FS.writeFile(path, bytes);
    },
  };
}
