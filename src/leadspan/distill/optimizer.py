"""The optimiser of a run. Knows nothing about losses or data."""

from __future__ import annotations

import torch

from leadspan.config import TrainingConfig


def build_optimizer(
    objective: torch.nn.Module, training: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Fused AdamW; weight decay on matrices only."""
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=training.learning_rate,
        betas=training.adam_betas,
        fused=True,
    )
