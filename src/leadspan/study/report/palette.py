"""Colours that stay apart for colour-blind readers, on light and on dark ground.

Okabe and Ito's palette (jfly.uni-koeln.de/color), in an order in which neighbours differ in lightness too.
"""

from __future__ import annotations

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK = ("#56B4E9", "#E69F00", "#2FC69B", "#E08CBB", "#F0E442", "#6F9FD8")
INK = "#1c2430"
MUTED = "#5a6675"
GRID = "#e3e7ec"
