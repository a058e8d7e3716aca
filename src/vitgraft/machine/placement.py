"""Where training runs: one device, or several processes that Accelerate brings together.

A single process needs no Accelerate. Its state is one a Python process, so with it a first `fit` would decide
the device of every later one.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vitgraft.errors import ConfigError, VitgraftError

T = TypeVar("T")


@dataclass(frozen=True)
class Placement:
    """A device, and this process's number among those that train together."""

    device: torch.device
    rank: int = 0
    processes: int = 1
    accelerator: Any = None

    @property
    def main(self) -> bool:
        """True in the one process that writes and prints."""
        return self.rank == 0

    @property
    def blocking(self) -> bool:
        """True if reading a value costs no wait for a queue of work."""
        return self.device.type == "cpu"

    @property
    def real(self) -> torch.dtype:
        """The widest floating-point type that the device adds up in."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def wrap(self, model: nn.Module, partly: bool = False) -> nn.Module:
        """`model`, which is on the device, averaging its gradients over processes.

        `partly` says that some of its values take no part in some steps.
        """
        if self.accelerator is None:
            return model
        if partly:
            from accelerate.utils import DistributedDataParallelKwargs

            self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        wrapped: nn.Module = self.accelerator.prepare_model(model, device_placement=False)
        return wrapped

    def local(self, model: nn.Module, local: bool) -> AbstractContextManager[Any]:
        """If `local`, gradients within are added up here and not averaged yet."""
        if self.accelerator is None or not local:
            return nullcontext()
        context: AbstractContextManager[Any] = self.accelerator.no_sync(model)
        return context

    def align(self, model: nn.Module) -> None:
        """Give every process the main one's buffers: a BatchNorm's statistics are of its own images alone."""
        if self.accelerator is not None:
            from accelerate.utils import broadcast

            for buffer in model.buffers():
                buffer.copy_(broadcast(buffer))

    def total(self, value: Tensor) -> Tensor:
        """The sum of `value` over all processes."""
        if self.accelerator is None:
            return value
        total: Tensor = self.accelerator.reduce(value, reduction="sum")
        return total

    def any(self, asked: bool) -> bool:
        """True in all processes if it is so in one."""
        if self.accelerator is None:
            return asked
        return bool(self.total(torch.tensor(float(asked), device=self.device)) > 0)

    def agreed(self, make: Callable[[], T]) -> T:
        """What `make` gives in the main process, in all: they must not see a folder at different moments."""
        if self.accelerator is None:
            return make()
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [None, None]
        if self.main:
            try:
                found[0] = make()
            except VitgraftError as error:
                found[1] = error
        broadcast_object_list(found)
        if found[1] is not None:
            raise found[1]
        made: T = found[0]
        return made

    def meet(self) -> None:
        """Wait until every process is here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()

    def arithmetic(self, precision: str) -> str:
        """What is computed in where `precision` is asked for: fp32 on a device without bf16."""
        return precision if computes_bf16(self.device) else "fp32"

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        """bf16 arithmetic if it is asked for and there is any; trained values stay fp32."""
        bf16 = self.arithmetic(precision) == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if bf16 else nullcontext()

    def wait(self) -> None:
        """Return once the device has done all its work, so that a clock can be read."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


def place(device: str = "auto") -> Placement:
    """The placement for a device's name, and for the processes that a launcher started.

    Raises:
        ConfigError: a device that this machine does not have.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _among_processes(device)
    return Placement(device_named(device))


def device_named(name: str) -> torch.device:
    """A device that is there. Raises ConfigError."""
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return there or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name!r} is not known. Use auto, cpu, cuda, cuda:1, mps or xpu.") from None
    if device.type == "cpu":
        return device
    count = torch.accelerator.device_count() if there and there.type == device.type else 0
    if (device.index or 0) >= count:
        raise ConfigError(
            f"device={name!r}: torch finds {count or 'no'} {device.type} device{'s' * (count != 1)} here. "
            "Use device=auto or cpu, or install a torch build for your accelerator."
        )
    return device


def computes_bf16(device: torch.device) -> bool:
    """True if a device has bf16 arithmetic; one that emulates it takes many times as long as in fp32."""
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True


def _among_processes(device: str) -> Placement:
    from accelerate import Accelerator

    if ":" in device:
        raise ConfigError(f"device={device!r}: with several processes each takes its own. Use auto, cuda or cpu.")
    on_cpu = device_named(device).type == "cpu"  # Accelerate joins no processes on a CPU unless it is told to
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="no")
    return Placement(accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator)
