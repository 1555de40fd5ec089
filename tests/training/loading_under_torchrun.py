"""Run by torchrun in test_parallel.py: loads one model onto two ranks and prints each rank's peak."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from leadspan.config import TeacherConfig
from leadspan.models import backbone_of, load_causal_lm
from leadspan.parallel import join_ranks, load_sharded, shard_teacher


def _status(field: str) -> int:
    """Bytes that /proc says of this process."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in text.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main(warm_up: str, path: str) -> None:
    """Load a small model first, so that imports count for nothing, then measure the one at `path`."""
    torch.set_num_threads(1)
    with join_ranks() as ranks:
        for folder in (warm_up, path):
            config = TeacherConfig(path=folder, dtype="float32")
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            before = _status("VmRSS")
            model = load_sharded(
                lambda device, config=config: load_causal_lm(config, device),  # type: ignore[misc]
                lambda whole: shard_teacher(backbone_of(whole).layers),
                ranks,
            )
            peak = _status("VmHWM") - before
        whole = load_causal_lm(config)
        ids_BT = torch.arange(12)[None]
        with torch.no_grad():
            gap = float((model(ids_BT).logits - whole(ids_BT).logits).abs().max())
        size = sum(p.numel() * p.element_size() for p in whole.parameters())
        found = json.dumps({"rank": ranks.rank, "peak": peak, "size": size, "gap": gap})
        sys.stdout.write(found + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
