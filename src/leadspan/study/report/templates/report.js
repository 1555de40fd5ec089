"use strict";
(() => {
  const samples = JSON.parse(document.getElementById("sample-data").textContent);

  // Parts are folded; a link into one opens it.
  function openTarget() {
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.matches("details.part")) target.open = true;
  }
  window.addEventListener("hashchange", openTarget);
  openTarget();

  // Legends: an entry switches what belongs to it.
  document.querySelectorAll(".legend button").forEach((button) => button.addEventListener("click", () => {
    const isShown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(isShown));
    button.closest(".panel").querySelectorAll(`.plot [data-entry="${button.dataset.entry}"]`)
      .forEach((part) => part.classList.toggle("off", !isShown));
  }));

  // Values: the point nearest to the pointer, and what lies on the same spot.
  const NEAR = 32, SAME = 4, tip = document.getElementById("tip");
  function hideTip(plot) {
    tip.hidden = true;
    plot.querySelectorAll(".hit.on").forEach((hit) => hit.classList.remove("on"));
  }
  function showTip(plot, event) {
    hideTip(plot);
    const places = [...plot.querySelectorAll(".hit:not(.off)")].map((hit) => {
      const box = hit.getBoundingClientRect();
      return { hit, x: box.x + box.width / 2, y: box.y + box.height / 2 };
    });
    const far = (place, x, y) => Math.hypot(place.x - x, place.y - y);
    const nearest = places.reduce((best, place) =>
      !best || far(place, event.clientX, event.clientY) < far(best, event.clientX, event.clientY) ? place : best, null);
    if (!nearest || far(nearest, event.clientX, event.clientY) > NEAR) return;
    const found = places.filter((place) => far(place, nearest.x, nearest.y) <= SAME);
    found.forEach(({ hit }) => hit.classList.add("on"));
    tip.textContent = found.map(({ hit }) => hit.dataset.hover).join("\n");
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(nearest.x + 10, innerWidth - tip.offsetWidth - 4)) + "px";
    const above = nearest.y - tip.offsetHeight - 10;
    tip.style.top = (above > 4 ? above : nearest.y + 12) + "px";
  }
  document.querySelectorAll(".plot").forEach((plot) => {
    plot.addEventListener("pointermove", (event) => showTip(plot, event));
    plot.addEventListener("pointerdown", (event) => showTip(plot, event));
    plot.addEventListener("pointerleave", () => hideTip(plot));
  });

  // Runs: a name opens the rest of its numbers.
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
    document.getElementById("samples").open = true;
    chooseRun(link.dataset.run);
    runs.focus({ preventScroll: true });
  }));
  chooseRun(list.dataset.first);
})();
