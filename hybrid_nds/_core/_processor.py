"""The kind of processor: what compiled code belongs to."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path


def processor() -> str:
    """A name for the kind of processor: its instruction sets, where they are known."""
    text = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    # "flags" on x86, "Features" on Arm.
    text += next((ln for ln in lines if ln.startswith(("flags", "Features"))), "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]
