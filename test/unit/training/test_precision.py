"""Number formats of training: as fast as the hardware allows, or exact."""

import pytest
import torch

from deepverse_ros.training.engine.precision import autocast

CPU = torch.device("cpu")


def product(precision) -> torch.dtype:
    with autocast(CPU, precision):
        return (torch.eye(2) @ torch.eye(2)).dtype


@pytest.mark.parametrize(("has_bfloat16", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_bfloat16_only_where_the_hardware_multiplies_in_it(monkeypatch, has_bfloat16, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bfloat16)
    assert product("auto") == expected
    assert product("bf16") == torch.bfloat16
    assert product("float32") == torch.float32
