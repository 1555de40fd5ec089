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

  // Figures: the numbers come from the page, their look from here and from the style sheet's variables.
  const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross"];
  const DASHES = ["dash", "dot", "dashdot"];
  const hidden = {};
  const ink = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const color = (series) => {
    if (series.mark === "dashed") return ink("muted");
    const palette = palettes[isDark() ? "dark" : "light"];
    return palette[series.color % palette.length];
  };
  const escapeHover = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  function trace(series) {
    const paint = color(series), mark = series.mark;
    const shown = { name: series.label, x: series.x, y: series.y };
    if (series.mark !== "dashed") {
      shown.customdata = series.hover.map(escapeHover);
      shown.hovertemplate = "%{customdata}<extra></extra>";
    } else shown.hoverinfo = "skip";
    if (series.errors) {
      const [below, above] = series.errors;
      const look = { thickness: 1.4, width: 4, color: mark === "bars" ? ink("ink") : paint };
      shown.error_y = { type: "data", symmetric: false, array: above, arrayminus: below, ...look };
    }
    if (mark === "bars") return { ...shown, type: "bar", marker: { color: paint } };
    const symbol = mark === "star" ? "star" : SYMBOLS[series.color % SYMBOLS.length];
    return {
      ...shown, type: "scatter", cliponaxis: false,
      mode: { line: "lines+markers", dashed: "lines" }[mark] || "markers",
      line: mark === "dashed" ? { color: paint, dash: "dot", width: 1.5 } : { color: paint, width: 2.2 },
      marker: { color: paint, symbol, size: mark === "star" ? 17 : 8 },
    };
  }
  function level([label, value], place, ends) {
    return {
      type: "scatter", mode: "lines", name: label, x: ends, y: [value, value],
      line: { color: ink("muted"), dash: DASHES[place % 3], width: 1.5 },
      hovertemplate: label + ": " + value.toFixed(2) + "<extra></extra>",
    };
  }
  // The name of a point, at the end of a line that begins there.
  function nameOf(label) {
    const paint = color({ mark: "points", color: label.color });
    return {
      type: "scatter", mode: "lines+text", x: [label.x, label.text_x], y: [label.y, label.text_y],
      text: ["", " " + escapeHover(label.text)], textposition: "middle right", cliponaxis: false,
      textfont: { color: paint, size: 12 }, line: { color: paint, width: 1 }, hoverinfo: "skip",
    };
  }
  function layout(figure) {
    const axis = {
      gridcolor: ink("grid"), linecolor: ink("muted"), zeroline: false, automargin: true,
      fixedrange: true, tickfont: { color: ink("muted") },
    };
    const title = (text) => ({ text, font: { size: 13, color: ink("ink") }, standoff: 8 });
    const ticks = figure.names.length ? { tickvals: figure.names.map((_, place) => place), ticktext: figure.names } : {};
    return {
      showlegend: false, height: 320, margin: { l: 52, r: 14, t: 12, b: 46 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      font: { family: "system-ui, sans-serif", size: 12, color: ink("ink") },
      hoverlabel: { bgcolor: ink("panel"), bordercolor: ink("muted"), font: { color: ink("ink"), size: 13 }, align: "left" },
      bargap: figure.names.length ? 0.32 : 0.08,
      xaxis: { ...axis, showgrid: false, title: title(figure.x_label), range: figure.range, ...ticks },
      yaxis: { ...axis, ...(figure.y_limits ? { range: figure.y_limits } : { rangemode: "tozero" }), title: title(figure.y_label) },
    };
  }
  function draw(plot) {
    const name = plot.dataset.chart, figure = figures[name];
    const traces = figure.series.map(trace).concat(figure.levels.map((line, place) => level(line, place, figure.range)));
    const data = traces.map((shown, place) => ({ ...shown, visible: !hidden[name].has(place) }));
    const isShown = (label) => figure.series.every((series, place) =>
      series.mark === "dashed" || series.color !== label.color || !hidden[name].has(place));
    data.push(...figure.labels.filter(isShown).map(nameOf));
    Plotly.react(plot, data, layout(figure), { displayModeBar: false, responsive: true });
    plot.parentElement.querySelectorAll(".legend button").forEach((button, place) => {
      button.setAttribute("aria-pressed", String(!hidden[name].has(place)));
      button.querySelector("i").style.color = color(entries(figure)[place]);
    });
  }
  // Levels are legend entries too, so that they can be switched off.
  function entries(figure) {
    return [...figure.series, ...figure.levels.map(([label]) => ({ label, mark: "dashed" }))];
  }
  function drawAll() { document.querySelectorAll(".plot").forEach(draw); }
  document.querySelectorAll(".plot").forEach((plot) => {
    const name = plot.dataset.chart, legend = plot.parentElement.querySelector(".legend");
    hidden[name] = new Set();
    entries(figures[name]).forEach((entry, place) => {
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
