"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures"), samples = read("sample-data"), palettes = read("palettes");
  const root = document.documentElement;
  const media = window.matchMedia("(prefers-color-scheme: dark)");

  // Theme: the reader's system decides until the button is used.
  const stored = () => { try { return localStorage.getItem("leadspan-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme || (media.matches ? "dark" : "light")) === "dark";
  if (stored()) root.dataset.theme = stored();
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("leadspan-theme", root.dataset.theme); } catch { /* a private window */ }
    drawAll();
  });
  media.addEventListener("change", drawAll);

  // Figures: "@0" is a colour of the palette, "@ink" a variable of the style sheet.
  const hidden = {};
  function colour(name) {
    if (/^@\d+$/.test(name)) {
      const palette = palettes[isDark() ? "dark" : "light"];
      return palette[Number(name.slice(1)) % palette.length];
    }
    return getComputedStyle(root).getPropertyValue("--" + name.slice(1)).trim();
  }
  function paint(value) {
    if (typeof value === "string") return /^@\w+$/.test(value) ? colour(value) : value;
    if (Array.isArray(value)) return value.map(paint);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, key === "customdata" ? inner : paint(inner)]));
    return value;
  }
  function escapeHover(text) {
    return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  }
  function draw(plot) {
    const name = plot.dataset.chart, figure = figures[name];
    const data = paint(figure.data).map((trace, place) => ({
      ...trace,
      customdata: (trace.customdata || []).map(escapeHover),
      visible: !hidden[name].has(place),
    }));
    Plotly.react(plot, data, paint(figure.layout), { displayModeBar: false, responsive: true });
    plot.parentElement.querySelectorAll(".legend button").forEach((button, place) => {
      button.setAttribute("aria-pressed", String(!hidden[name].has(place)));
      button.querySelector("i").style.color = colour(figure.legend[place].colour);
    });
  }
  function drawAll() { document.querySelectorAll(".plot").forEach(draw); }
  document.querySelectorAll(".plot").forEach((plot) => {
    const name = plot.dataset.chart, legend = plot.parentElement.querySelector(".legend");
    hidden[name] = new Set();
    figures[name].legend.forEach((entry, place) => {
      const button = document.createElement("button"), swatch = document.createElement("i");
      button.type = "button";
      swatch.className = entry.mark;
      button.append(swatch, entry.label);
      button.addEventListener("click", () => {
        if (!hidden[name].delete(place)) hidden[name].add(place);
        draw(plot);
      });
      legend.append(button);
    });
  });
  drawAll();

  // Runs: a name opens the config's differences.
  document.querySelectorAll(".opener").forEach((button) => button.addEventListener("click", () => {
    const row = document.getElementById(button.getAttribute("aria-controls"));
    row.hidden = !row.hidden;
    button.setAttribute("aria-expanded", String(!row.hidden));
  }));

  // Samples.
  const runs = document.getElementById("sample-run"), outcomes = document.getElementById("sample-outcome");
  if (!runs) return;
  const list = document.getElementById("sample-list"), count = document.getElementById("sample-count");
  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function option(value, label) {
    const made = element("option", "", label);
    made.value = value;
    return made;
  }
  function showText(parts) {
    const pre = element("pre");
    pre.tabIndex = 0;
    let before = "kept";
    for (const [kind, text] of parts) {
      if (kind !== "gap" && kind !== before) {
        pre.append(element("span", "cut", kind === "dropped" ? "✂ cut from here" : "kept from here ✂"));
        before = kind;
      }
      pre.append(element("span", kind, text));
    }
    return pre;
  }
  function showSample(sample) {
    const details = element("details"), summary = element("summary");
    const body = element("div", "sample");
    summary.append(
      element("span", "outcome " + sample.outcome, sample.outcome),
      element("span", "", sample.benchmark + " / " + sample.problem),
      element("span", "what", sample.tokens + " tokens, " + (sample.finish === "length" ? "cut off at the limit" : "ended")),
      element("span", "what", "gold " + (sample.gold || "–") + ", answered " + (sample.extracted || "–")),
    );
    details.append(summary, body);
    details.addEventListener("toggle", () => {
      if (!details.open || body.childElementCount) return;
      body.append(element("h4", "", "Prompt"), showText(sample.prompt), element("h4", "", "Answer"), showText(sample.text));
      if (sample.reason) body.append(element("h4", "", "Grading"), element("p", "note", sample.reason));
    });
    return details;
  }
  function showRun() {
    const all = samples[runs.value], wanted = outcomes.value;
    const shown = all.filter((sample) => !wanted || sample.outcome === wanted);
    list.replaceChildren(...shown.map(showSample));
    count.textContent = shown.length + " of " + all.length + " shown here";
  }
  function chooseRun(name) {
    runs.value = name;
    const found = [...new Set(samples[name].map((sample) => sample.outcome))].sort();
    outcomes.replaceChildren(option("", "all"), ...found.map((value) => option(value, value)));
    showRun();
  }
  runs.append(...Object.keys(samples).map((name) => option(name, name)));
  runs.addEventListener("change", () => chooseRun(runs.value));
  outcomes.addEventListener("change", showRun);
  document.querySelectorAll("[data-run]").forEach((link) => link.addEventListener("click", () => {
    chooseRun(link.dataset.run);
    runs.focus({ preventScroll: true });
  }));
  chooseRun(list.dataset.first);
})();
