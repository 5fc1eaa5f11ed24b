// Buttons that run the cells of a page, in a Python that worker.js holds.
"use strict";

(() => {
  const here = document.currentScript.src;
  const PROGRESS = "tinyshuffle-course"; // where this browser keeps what course.check has noted
  const FILE = "tinyshuffle-course.json"; // the notebooks' has a dot before it, as none is saved
  const NOTHING_KEPT = "This browser keeps nothing of this page:";
  const STEPS = 3; // that worker.js tells while it loads
  let worker = null; // the Python that runs, or null
  let ready = null; // resolved as soon as it takes cells
  let waiting = null; // what the running cell's messages go to
  let running = false;
  let unkept = null; // the progress, if the browser does not keep it

  const cells = [...document.querySelectorAll("div.cell")]
    .filter((root) => root.querySelector(".cell_input pre"))
    .map(cell);

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function button(text, action) {
    return make("button", { type: "button", textContent: text, onclick: action });
  }

  // ---- what the browser keeps

  function recall(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  }

  // false if this browser keeps nothing
  function remember(name, value) {
    try {
      if (value === null) localStorage.removeItem(name);
      else localStorage.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  }

  // ---- a cell

  function cell(root, index) {
    const number = index + 1;
    const name = [...root.classList].find((one) => one.startsWith("tag_id-"));
    const kept = `tinyshuffle ${location.pathname} ${name}`;
    const shown = root.querySelector(".cell_input > *"); // the code, in colours
    const original = shown.querySelector("pre").textContent.replace(/\n$/, "");
    const before = [...root.querySelectorAll(":scope > .cell_output")];
    const output = make("div", { className: "ts-output", hidden: true });
    output.setAttribute("role", "log");
    const status = make("span", { className: "ts-status" });
    status.setAttribute("role", "status");
    const loading = make("progress", { max: STEPS, hidden: true });
    loading.setAttribute("aria-label", "Python is loading");
    const start = button("Run", () => run(self));
    const stop = Object.assign(button("Stop", halt), { hidden: true });
    const edit = button("Edit", () => open(true));
    const reset = Object.assign(button("Reset", back), { hidden: true });
    let area = null;
    for (const [one, does] of [[start, "Run"], [stop, "Stop"], [edit, "Edit"], [reset, "Reset"]]) {
      one.setAttribute("aria-label", `${does} cell ${number}`);
    }
    root.id ||= `cell-${number}`;
    const bar = make("div", { className: "ts-bar" }, start, stop, edit, reset, loading, status);
    root.querySelector(".cell_input").after(bar, output);

    const self = {
      root, number, name, output, loading, stop, bar, ran: null, code, say, begin, end,
    };
    const edited = recall(kept);
    if (edited !== null || name?.endsWith("-answer")) open(false, edited ?? original);
    if (edited !== null) reset.hidden = false;
    return self;

    function code() {
      return area ? area.value : original;
    }

    function say(...parts) {
      status.replaceChildren(...parts);
    }

    // let the code be written in
    function open(focus, text = original) {
      const plain = { spellcheck: false, autocapitalize: "off", wrap: "off" };
      area = make("textarea", { value: text, ...plain });
      area.setAttribute("autocorrect", "off");
      area.setAttribute(
        "aria-label", `Code of cell ${number}. Shift and Enter run it, Escape leaves it.`,
      );
      area.oninput = changed;
      area.onkeydown = key;
      fit();
      shown.hidden = true;
      shown.after(area);
      edit.hidden = true;
      if (focus) area.focus();
    }

    function changed() {
      fit();
      reset.hidden = false;
      const same = area.value === original;
      const done = remember(kept, same ? null : area.value);
      say(done ? "" : `${NOTHING_KEPT} copy what you wrote before you leave.`);
    }

    function fit() {
      area.rows = area.value.split("\n").length + 1;
    }

    function key(event) {
      if (event.key === "Enter" && (event.shiftKey || event.ctrlKey)) {
        event.preventDefault();
        run(self);
      } else if (event.key === "Enter" && !event.isComposing) {
        const line = area.value.slice(0, area.selectionStart).split("\n").at(-1);
        event.preventDefault();
        insert("\n" + line.match(/^ */)[0] + (/:\s*$/.test(line) ? "    " : ""));
      } else if (event.key === "Tab" && !event.shiftKey) {
        event.preventDefault();
        insert("    ");
      } else if (event.key === "Escape") {
        start.focus(); // from where Tab goes on through the page
      }
    }

    // As if it were typed, so that the browser's undo takes it back; changed() hears of it, too.
    function insert(text) {
      if (document.execCommand("insertText", false, text)) return;
      area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
      changed();
    }

    // the code and the outputs of the page as they were
    function back() {
      remember(kept, null);
      if (area) area.value = original;
      if (area) fit();
      output.hidden = true;
      before.forEach((one) => (one.hidden = false));
      reset.hidden = true;
      say();
      start.focus();
    }

    function begin() {
      before.forEach((one) => (one.hidden = true));
      output.replaceChildren();
      output.hidden = false;
      reset.hidden = false;
      root.classList.add("ts-running");
    }

    function end() {
      root.classList.remove("ts-running");
    }
  }

  // ---- running

  // Run a cell, and before it those above that have not run as they now stand. Checks, hints and
  // the like are run only if they are asked for.
  async function run(asked) {
    if (running) {
      asked.say("Another cell is running: wait for it, or stop it.");
      return;
    }
    const asks = (one) => /\bcourse\.(check|hint|progress)\(/.test(one.code());
    const above = cells.slice(0, asked.number - 1);
    const todo = [...above.filter((one) => one.ran !== one.code() && !asks(one)), asked];
    running = true;
    asked.stop.hidden = false;
    asked.say();
    try {
      await loaded(asked);
      for (const one of todo) {
        asked.say(one === asked ? "Running" : `Running cell ${one.number}, which comes before it`);
        if (await runOne(one)) continue;
        if (one === asked) asked.say("Ended with an error.");
        else asked.say("Not run: ", link(one), " above ends with an error.");
        return;
      }
      asked.say(unkept === null ? "Done." : `Done. ${NOTHING_KEPT} save your progress at the end.`);
    } catch (error) {
      asked.say(error.message);
    } finally {
      running = false;
      asked.stop.hidden = asked.loading.hidden = true;
    }
  }

  function link(one) {
    return make("a", { href: `#${one.root.id}`, textContent: `cell ${one.number}` });
  }

  // Resolves when Python takes cells; it is started if there is none.
  function loaded(asked) {
    if (worker) return ready;
    let step = 0;
    asked.loading.value = 0;
    asked.loading.hidden = false;
    worker = new Worker(new URL("worker.js", here), { type: "module" });
    ready = new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => {
        if (data.step) {
          asked.say(`First time: ${data.step}`);
          asked.loading.value = step++;
        } else if (data.ready) {
          asked.loading.hidden = true;
          resolve();
        } else if (data.failed) {
          forget();
          reject(new Error(data.failed));
        } else {
          waiting?.heard(data);
        }
      };
      worker.onerror = () => {
        const said = new Error("Python broke off: run the cell again to start it anew.");
        forget();
        reject(said);
        waiting?.broken(said);
      };
      halt.reject = reject;
    });
    worker.postMessage({ progress: unkept ?? recall(PROGRESS) });
    return ready;
  }

  // Resolves with whether the cell ran to its end.
  function runOne(one) {
    const code = one.code();
    one.begin();
    return new Promise((resolve, reject) => {
      waiting = {
        broken: reject,
        heard(data) {
          if (!data.done) {
            one.output.append(...shape(data, one.output.lastElementChild));
            return;
          }
          if (data.error) {
            one.output.append(make("pre", { className: "ts-error", textContent: data.error }));
          }
          if (data.progress && !remember(PROGRESS, data.progress)) unkept = data.progress;
          one.ran = data.error ? null : code;
          resolve(!data.error);
        },
      };
      worker.postMessage({ number: one.number, code, progress: unkept ?? recall(PROGRESS) });
    }).finally(() => {
      waiting = null;
      one.end();
    });
  }

  // The elements of an output; text is added to the text before it.
  function shape({ text, sentence, data, metadata }, last) {
    if (sentence !== undefined) return [make("p", { textContent: sentence })];
    if (text !== undefined) {
      if (last?.className === "ts-text") {
        last.textContent += text;
        return [];
      }
      return [make("pre", { className: "ts-text", textContent: text })];
    }
    if (data["image/png"]) {
      const { alt = "", width } = metadata["image/png"] ?? {};
      const image = make("img", { src: `data:image/png;base64,${data["image/png"]}`, alt });
      if (width) image.width = width;
      return [image];
    }
    if (data["text/html"]) return [make("div", { innerHTML: data["text/html"] })];
    return [make("pre", { textContent: data["text/plain"] })];
  }

  function halt() {
    forget();
    const said = new Error(
      "Stopped. What was computed is gone: the next run begins with the cells above.",
    );
    halt.reject(said);
    waiting?.broken(said);
  }

  function forget() {
    worker?.terminate();
    worker = null;
    cells.forEach((one) => (one.ran = null));
  }

  // ---- the course's progress

  const last = cells.find((one) => one.name === "tag_id-progress");
  last?.bar.append(
    button("Save as a file", () => {
      const text = unkept ?? recall(PROGRESS);
      if (text === null) {
        last.say("There is no progress yet: run a check first.");
        return;
      }
      const link = make("a", {
        href: URL.createObjectURL(new Blob([text], { type: "application/json" })),
        download: FILE,
      });
      link.click();
      URL.revokeObjectURL(link.href);
      last.say(
        `Saved as ${FILE}. Notebooks go on from it if it lies beside them, named .${FILE}.`,
      );
    }),
  );
})();
