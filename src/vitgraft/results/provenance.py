"""Where a result came from: the device it was computed on, vitgraft's own commit, and versions."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import timm
import torch

from vitgraft.machine.placement import computes_bf16


def device_name(device: torch.device) -> str:
    """What a device is called by its maker, how many threads a CPU run has, and that it has no bf16 arithmetic."""
    return _name(device) + ("" if computes_bf16(device) else ", no bf16")


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return f"{device.type} of {platform.platform()}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = found[0] if found else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def commit() -> str | None:
    """vitgraft's own commit where it runs from a checkout, with "+" if files differ from it.

    None where it is installed elsewhere, be it inside another project's checkout.
    """
    here = Path(__file__).parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(("git", "-C", here, *arguments), capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = git("rev-parse", "HEAD")
    return head and head + ("+" if git("status", "--porcelain", "--untracked-files=no", ".") else "")


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    return {
        "vitgraft": metadata.version("vitgraft"),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }
