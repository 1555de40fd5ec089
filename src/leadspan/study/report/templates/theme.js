"use strict";
// The reader's system decides until the button is used.
(() => {
  const root = document.documentElement;
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("leadspan-theme"); } catch { return null; } };
  if (stored()) root.dataset.theme = stored();
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const isDark = (root.dataset.theme || (media.matches ? "dark" : "light")) === "dark";
      root.dataset.theme = isDark ? "light" : "dark";
      try { localStorage.setItem("leadspan-theme", root.dataset.theme); } catch { /* a private window */ }
    });
  });
})();
