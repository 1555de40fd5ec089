"""Key-value cache and masks for rows that come and go, each at its own length.

transformers' caches share one length among all rows, so a batch must be padded on the left and one
long answer holds it. Here a finished row's place goes to the next request at once. Knows nothing about
tokens, sampling or requests.

Shape suffixes: B rows, N rows that are filled, H key-value heads, L places, D head size, Q tokens of one
forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

PLACES = 64
"""The cache grows by multiples of this."""


class SlotCache:
    """What a transformers model calls `past_key_values`, with a length for each row."""

    is_compileable = False

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self.capacity = 0
        """Places a row has."""
        self._width = 0
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._rows_B = torch.arange(num_rows, device=device)
        self._places_B = torch.zeros(num_rows, dtype=torch.long, device=device)
        self._filled: tuple[Tensor, Tensor] | None = None

    def reserve(self, width: int) -> None:
        """Make the next step read `width` places; the room grows by half when it must."""
        self._width = width
        if width <= self.capacity:
            return
        capacity = -(-max(width, self.capacity * 3 // 2) // PLACES) * PLACES
        for store in (self._keys, self._values):
            for layer, old in store.items():
                new = old.new_zeros(old.shape[0], old.shape[1], capacity, old.shape[3])
                new[:, :, : self.capacity] = old
                store[layer] = new
        self.capacity = capacity

    @contextmanager
    def filling(self, rows_N: Tensor, source_N: Tensor) -> Iterator[None]:
        """Within, a forward pass over whole prompts writes number `source_N` of them into `rows_N`."""
        self._filled = rows_N, source_N
        try:
            yield
        finally:
            self._filled = None

    def place(self, places_B: Tensor) -> None:
        """Where the next step writes each row's token."""
        self._places_B = places_B

    def keep(self, rows: Tensor) -> None:
        """Drop every other row."""
        for store in (self._keys, self._values):
            for layer, old in store.items():
                store[layer] = old[rows]
        self._rows_B = torch.arange(len(rows), device=rows.device)

    def update(
        self, key_BHQD: Tensor, value_BHQD: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values; return what its queries may look at."""
        if layer_idx not in self._keys:
            for store, new in ((self._keys, key_BHQD), (self._values, value_BHQD)):
                shape = (len(self._rows_B), new.shape[1], self.capacity, new.shape[3])
                store[layer_idx] = new.new_zeros(shape)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        if self._filled is not None:
            rows_N, source_N = self._filled
            keys[rows_N, :, : key_BHQD.shape[2]] = key_BHQD[source_N]
            values[rows_N, :, : value_BHQD.shape[2]] = value_BHQD[source_N]
            return key_BHQD, value_BHQD
        keys[self._rows_B, :, self._places_B] = key_BHQD[:, :, 0]
        values[self._rows_B, :, self._places_B] = value_BHQD[:, :, 0]
        return keys[:, :, : self._width], values[:, :, : self._width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Some models ask though the positions are given; what they make of it is not used."""
        return 0


class AttentionMasks:
    """Additive masks, kept from step to step: 0 where a row may look, the least number elsewhere."""

    def __init__(
        self, config: Any, num_rows: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._least = torch.finfo(dtype).min
        self._device, self._dtype = device, dtype
        self._kinds = set(getattr(config, "layer_types", None) or ())
        window = getattr(config, "sliding_window", None)
        self._window = None if self._kinds == {"full_attention"} else window
        self._mask_BL = torch.empty(num_rows, 0, dtype=dtype, device=device)
        self._rows_B = torch.arange(num_rows, device=device)

    def reserve(self, capacity: int) -> None:
        """Have as many places as the cache."""
        short = capacity - self._mask_BL.shape[1]
        if short > 0:
            self._mask_BL = torch.nn.functional.pad(self._mask_BL, (0, short), value=self._least)

    def begin(self, rows_N: Tensor, position_N: Tensor) -> None:
        """A new prompt stands in each of these rows, up to but without `position_N`."""
        places_L = torch.arange(self._mask_BL.shape[1], device=self._device)
        hidden_NL = places_L[None, :] >= position_N[:, None]
        self._mask_BL[rows_N] = self._hide(hidden_NL)

    def keep(self, rows: Tensor) -> None:
        """Drop every other row."""
        self._mask_BL = self._mask_BL[rows]
        self._rows_B = torch.arange(len(rows), device=self._device)

    def of_step(self, position_B: Tensor, width: int) -> Any:
        """Masks of a step in which each row writes at its position; from then on it may look there."""
        self._mask_BL[self._rows_B, position_B] = 0
        mask = self._mask_BL[:, None, None, :width]
        if self._window is None:
            return mask
        places_L = torch.arange(width, device=self._device)
        return self._by_kind(mask, position_B[:, None, None, None] - places_L)

    def of_prompts(self, num_rows: int, size: int) -> Any:
        """Causal masks of prompts that are padded on the right."""
        places_Q = torch.arange(size, device=self._device)
        distance_QQ = (places_Q[:, None] - places_Q).expand(num_rows, 1, size, size)
        return self._by_kind(self._hide(distance_QQ < 0), distance_QQ)

    def _hide(self, hidden: Tensor) -> Tensor:
        return torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(
            hidden, self._least
        )

    def _by_kind(self, full: Tensor, distance: Tensor) -> Any:
        """One mask, or one for each kind of layer where the model has several."""
        if self._window is None:
            return full
        sliding = full.masked_fill(distance >= self._window, self._least)
        if not self._kinds:
            return sliding
        return {"full_attention": full, "sliding_attention": sliding}
