// Sliders without a kernel: each moves a figure among pictures that were drawn when the site was
// built (sliders.py). A slider holds only the values that go with what the others stand at.
"use strict";

(() => {
  const pictures = new URL("../_pictures/", document.currentScript.src);

  for (const place of document.querySelectorAll(".ts-slider")) {
    const { choices, start, states } = JSON.parse(place.dataset.slider);
    const names = Object.keys(choices);
    const at = start.split("-").map(Number); // of each slider, the place of its value
    const image = place.closest(".cell").querySelector(".cell_output img");
    const link = image.closest("a"); // to the picture alone
    const moved = Object.assign(document.createElement("p"), { className: "ts-unseen" });
    moved.setAttribute("role", "status"); // a screen reader reads what the picture now shows
    const controls = names.map(control);
    place.append(...controls.map((one) => one.row), moved);
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", "What the figure above shows");
    controls.forEach((one) => one.refresh());

    // the values that slider i can take while the others stay where they are
    function fitting(i) {
      return choices[names[i]].map((_, v) => v).filter((v) => at.with(i, v).join("-") in states);
    }

    function control(name, i) {
      const words = choices[name].some((value) => typeof value === "string");
      const input = document.createElement(words ? "select" : "input");
      const row = document.createElement("label");
      const value = document.createElement("output");
      const title = Object.assign(document.createElement("span"), {
        textContent: name.replaceAll("_", " "),
      });
      row.append(title, input, value);
      if (!words) Object.assign(input, { type: "range", min: 0, step: 1 });
      input.addEventListener("input", () => {
        at[i] = fitting(i)[input.value];
        show();
      });
      return { row, refresh };

      function refresh() {
        const fits = fitting(i);
        if (words) {
          input.replaceChildren(...fits.map((v, k) => new Option(choices[name][v], k)));
        } else {
          input.max = fits.length - 1;
          input.disabled = fits.length === 1;
          value.textContent = choices[name][at[i]];
          input.setAttribute("aria-valuetext", value.textContent);
        }
        input.value = fits.indexOf(at[i]);
      }
    }

    function show() {
      const state = at.join("-");
      image.src = new URL(`${place.dataset.cell}/${state}.webp`, pictures);
      image.alt = moved.textContent = states[state];
      if (link) link.href = image.src;
      controls.forEach((one) => one.refresh());
    }
  }
})();
