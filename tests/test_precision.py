"""Which devices are given bfloat16, and the timed product."""

from __future__ import annotations

import pytest
import torch

from leadspan.precision import has_bf16_units, measure_flops_per_second, resolve_bf16, resolve_dtype

CPU = torch.device("cpu")


def pretend(monkeypatch: pytest.MonkeyPatch, amx: bool, avx512_bf16: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "expected"),
    [
        pytest.param(False, False, False, id="AVX2 or plain AVX-512"),
        pytest.param(True, False, True, id="AMX"),
        pytest.param(False, True, True, id="AVX-512 bf16"),
    ],
)
def test_auto_follows_the_units_of_a_cpu(
    amx: bool, avx512_bf16: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, amx, avx512_bf16)
    assert has_bf16_units(CPU) is expected
    assert resolve_bf16("auto", CPU) is expected
    assert resolve_dtype("auto", CPU) == ("bfloat16" if expected else "float32")


@pytest.mark.parametrize("supported", [True, False])
def test_auto_follows_the_gpu(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    assert resolve_bf16("auto", "cuda:1") is supported


@pytest.mark.parametrize("chosen", [True, False])
def test_what_is_set_is_kept(chosen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, not chosen, not chosen)
    assert resolve_bf16(chosen, CPU) is chosen
    name = "bfloat16" if chosen else "float32"
    assert resolve_dtype(name, CPU) == name


def test_a_build_without_the_probes_has_no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not has_bf16_units(CPU)


def test_the_timed_product_is_within_what_processors_do() -> None:
    assert 1e7 < measure_flops_per_second(CPU, bf16=False) < 1e15
