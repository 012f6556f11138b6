"""The table of algorithms: one row per module that keeps the contract (see ``contract``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convopt.algorithms import direct, fft

if TYPE_CHECKING:
    from convopt.algorithms.contract import Algorithm

ALGORITHMS: dict[str, Algorithm] = {module.NAME: module for module in (direct, fft)}
