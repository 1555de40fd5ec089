"""A key-value cache of rows that come and go: each row is written at its own length.

transformers' caches share one length among all rows, so a batch must be padded on the left and one
long answer holds it. Here a finished row's place goes to the next request at once. Knows nothing
about tokens, sampling or requests.

Shape suffixes: B rows, H key-value heads, L places, D head size, Q tokens of one forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PLACES = 64


class SlotCache:
    """What a transformers model calls `past_key_values`, with a length for each row."""

    is_compileable = False

    def __init__(self, num_rows: int, device: torch.device, dtype: torch.dtype) -> None:
        self.num_rows = num_rows
        self.capacity = 0
        self.width = 0
        """How many places the next forward pass reads."""
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._device, self._dtype = device, dtype
        self._rows_B = torch.arange(num_rows, device=device)
        self._places_B = torch.zeros(num_rows, dtype=torch.long, device=device)
        self._filled_rows: Tensor | None = None

    def reserve(self, width: int) -> None:
        """Make room for `width` places in every row, half as much again when it must grow."""
        self.width = width
        if width <= self.capacity:
            return
        capacity = -(-max(width, self.capacity * 3 // 2) // PLACES) * PLACES
        for store in (self._keys, self._values):
            for layer, old in store.items():
                new = old.new_zeros(old.shape[0], old.shape[1], capacity, old.shape[3])
                new[:, :, : self.capacity] = old
                store[layer] = new
        self.capacity = capacity

    def fill(self, rows: Tensor | None) -> None:
        """The next passes write whole prompts into these rows; None goes back to one token a row."""
        self._filled_rows = rows

    def place(self, places_B: Tensor) -> None:
        """Where the next pass writes each row's token."""
        self._places_B = places_B

    def keep(self, rows: Tensor) -> None:
        """Drop every other row."""
        for store in (self._keys, self._values):
            for layer, old in store.items():
                store[layer] = old[rows]
        self.num_rows = len(rows)
        self._rows_B = torch.arange(self.num_rows, device=self._device)

    def update(
        self, key_BHQD: Tensor, value_BHQD: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values; return what its queries may look at."""
        if layer_idx not in self._keys:
            for store, new in ((self._keys, key_BHQD), (self._values, value_BHQD)):
                shape = (self.num_rows, new.shape[1], self.capacity, new.shape[3])
                store[layer_idx] = new.new_zeros(shape)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        if self._filled_rows is not None:
            keys[self._filled_rows, :, : key_BHQD.shape[2]] = key_BHQD
            values[self._filled_rows, :, : value_BHQD.shape[2]] = value_BHQD
            return key_BHQD, value_BHQD
        keys[self._rows_B, :, self._places_B] = key_BHQD[:, :, 0]
        values[self._rows_B, :, self._places_B] = value_BHQD[:, :, 0]
        return keys[:, :, : self.width], values[:, :, : self.width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Some models ask for it though the positions are given."""
        return 0
