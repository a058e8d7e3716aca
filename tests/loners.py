"""Work for processes of their own."""

import os
import signal
from typing import NoReturn

import torch

from vitgraft.analyze.peak import Peak, peak_of
from vitgraft.errors import ConfigError


def fills(mib: int) -> Peak:
    return peak_of(lambda: torch.ones(mib * 2**18), torch.device("cpu"))


def refuses() -> NoReturn:
    raise ConfigError("This is not to be had.")


def dies() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fails() -> NoReturn:
    raise ZeroDivisionError
