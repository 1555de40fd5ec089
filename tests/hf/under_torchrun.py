"""Run by torchrun in test_trainer.py: one small LeadSpanTrainer on every rank."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import DistributedType, PartialState
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, TrainerCallback

from leadspan import LeadSpanTrainer
from tests.conftest import build_tiny_tokenizer
from tests.hf.prepared import arguments, examples, ordered, rows

FSDP: dict[str, Any] = {
    "fsdp": True,
    "fsdp_config": {
        "version": 2,
        "cpu_ram_efficient_loading": True,
        "reshard_after_forward": True,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "transformer_layer_cls_to_wrap": ["Qwen3DecoderLayer"],
        "state_dict_type": "FULL_STATE_DICT",
    },
}


class SumsByGloo(TrainerCallback):
    """Gloo cannot average."""

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)


def main(folder: str, student: str, teacher: str, strategy: str, rollout: str) -> None:
    """Train in `folder` by ddp, fsdp, or fsdp_all with the teacher shared out too."""
    torch.set_num_threads(1)
    is_fsdp = strategy != "ddp"
    more = FSDP if is_fsdp else {}
    args = arguments(folder, per_device_train_batch_size=1, **more)
    if is_fsdp:
        os.environ["ACCELERATE_USE_FSDP"] = "true"  # as accelerate launch does
        # accelerate takes FSDP for GPUs alone; nothing of it depends on them.
        assert args.world_size == 2
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    on_policy = json.loads(rollout)
    trainer = LeadSpanTrainer(
        model=AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32),
        teacher={"path": teacher, "dtype": "float32", "shard": strategy == "fsdp_all"},
        args=args,
        train_dataset=ordered(examples()),
        eval_dataset=rows(examples()[:7]),
        processing_class=build_tiny_tokenizer(),
        callbacks=[SumsByGloo()],
        **on_policy,
    )
    trainer.train()
    is_sharded = all(isinstance(p, DTensor) for p in trainer.model.parameters())
    assert is_sharded == is_fsdp
    assert isinstance(trainer.model_wrapped, DistributedDataParallel) != is_fsdp
    evaluated = trainer.evaluate()
    trainer.save_model()
    if trainer.is_world_process_zero():
        found = {"log": trainer.state.log_history, "eval": evaluated}
        (Path(folder) / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
