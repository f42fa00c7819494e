"use strict";
// The slider: multiplications of each step at a length, in the first column of figures.
for (const slider of document.querySelectorAll(".slider")) {
  const input = slider.querySelector("input"), shown = slider.querySelector("output");
  const table = document.getElementById(input.dataset.steps);
  slider.hidden = false;
  input.addEventListener("input", () => {
    const length = Number(input.value);
    let total = 0;
    shown.textContent = input.value;
    table.tHead.rows[0].cells[2].textContent = `${length} tokens`;
    for (const row of table.tBodies[0].rows) {
      if (row.dataset.macs) {
        const [a, b, c] = row.dataset.macs.split(" ").map(Number);
        const count = a + b * length + c * length * length;
        total += count;
        row.cells[2].textContent = count.toLocaleString("en");
      } else if (row.classList.contains("all")) {
        row.cells[2].textContent = total.toLocaleString("en");
      }
    }
  });
}

// The trial: the package's C answers the text in the box, or the one behind #text= in the page's address.
async function prepare(section) {
  const coded = section.querySelector(".wasm").textContent;
  const bytes = Uint8Array.from(atob(coded), (character) => character.charCodeAt(0));
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const known = JSON.parse(section.querySelector(".known").textContent);
  const c = instance.exports, memory = c.memory;
  const labelOf = (number) => number === known.classes ? "none of these" : known.labels ? known.labels[number] : `${number}`;

  function classify(text) {
    const coded = new TextEncoder().encode(text).subarray(0, c.text_bytes());
    new Uint8Array(memory.buffer, c.text(), coded.length).set(coded);
    const count = c.tokens(coded.length);
    const ids = count > 0 ? [...new Int32Array(memory.buffer, c.ids(), count)] : [];
    const status = c.answer(coded.length);
    const perToken = known.head === "tokens";
    const logits = [...new Float32Array(memory.buffer, c.logits(), known.classes * (perToken ? Math.max(status, 0) : 1))];
    return { status, ids, logits, perToken };
  }

  function show(text) {
    const { status, ids, logits, perToken } = classify(text);
    const answer = section.querySelector(".answer"), tokens = section.querySelector(".tokens"), scores = section.querySelector(".scores");
    tokens.replaceChildren();
    scores.replaceChildren();
    if (status < 0) {
      answer.textContent = `no answer (status ${-status})`;
      return;
    }
    ids.forEach((id, n) => {
      const token = document.createElement("span");
      const best = perToken ? logits.slice(n * known.classes, (n + 1) * known.classes) : [];
      token.textContent = (known.names ? known.names[id] : `${id}`) + (perToken ? `: ${labelOf(best.indexOf(Math.max(...best)))}` : "");
      token.title = `token ${id}`;
      tokens.append(token);
    });
    section.dataset.logits = logits.map((x) => {
      const view = new DataView(new ArrayBuffer(4));
      view.setFloat32(0, x);
      return view.getUint32(0).toString(16).padStart(8, "0");
    }).join(" ");
    if (known.head === "one label" || known.head === "many labels") {
      const largest = Math.max(...logits);
      const powers = logits.map((x) => known.head === "one label" ? Math.exp(x - largest) : 1 / (1 + Math.exp(-x)));
      const sum = known.head === "one label" ? powers.reduce((a, b) => a + b, 0) : 1;
      const order = powers.map((_, n) => n).sort((a, b) => powers[b] - powers[a]);
      answer.textContent = known.head === "one label" ? labelOf(status) : order.filter((n) => logits[n] > 0).map(labelOf).join(", ") || "no label";
      for (const n of order.slice(0, 8)) {
        const item = document.createElement("li"), meter = document.createElement("meter");
        meter.value = powers[n] / sum;
        meter.setAttribute("aria-label", labelOf(n));
        item.append(meter, ` ${(100 * powers[n] / sum).toFixed(1)} % ${labelOf(n)}`);
        scores.append(item);
      }
    } else {
      answer.textContent = perToken ? `${ids.length} tokens` : logits.slice(0, 8).map((x) => x.toPrecision(5)).join(", ") + (logits.length > 8 ? ", ..." : "");
    }
  }

  const form = section.querySelector("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show(form.elements.text.value);
  });
  section.hidden = false;
  const given = new URLSearchParams(location.hash.slice(1)).get("text");
  if (given !== null) {
    form.elements.text.value = given;
  }
  show(form.elements.text.value);
  section.classify = classify;
}
for (const section of document.querySelectorAll(".trial")) {
  prepare(section);
}
