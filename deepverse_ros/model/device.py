"""Which device and number format to compute in."""

import torch

from deepverse_ros.errors import DeviceError


def resolve_device(name: str) -> torch.device:
    """Args: name: auto, cpu, cuda or cuda:N.

    Raises: DeviceError with torch's version and the fix if CUDA is asked for and cannot be had.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device: '{name}' is unknown; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device: '{name}' is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise DeviceError(
            f"device: '{name}' was asked for, but torch {torch.__version__} ({built}) finds no GPU. Install a CUDA "
            "build of torch that fits the driver (on a Jetson: NVIDIA's wheel for its JetPack), or use device:=cpu."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device: '{name}' does not exist; torch sees {torch.cuda.device_count()} GPU(s)")
    return device


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware does; elsewhere each product is converted, which takes several times as long as float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def inference_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies in it, else the fastest that it has."""
    if multiplies_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32
