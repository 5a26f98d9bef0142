"""What this machine offers to the process."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import time
from pathlib import Path

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)
_LARGEST_KEPT = 1 << 30
_WINDOWS_FILES = 512
_CPU_TIMES = Path("/proc/stat")
_LOOK = 0.1  # seconds; the system counts in hundredths
_BUSY = 0.3  # of that time


def available_cpus() -> int:
    """Count the logical CPUs that this process may run on (its affinity, not the host's number)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_threads(asked: int | None) -> int:
    """Give as many threads as are asked for, but no more than there are CPUs; one for each where none are."""
    cpus = available_cpus()
    return cpus if asked is None else min(asked, cpus)


def busy_cpus() -> int:
    """Count the CPUs of this process that others use, by looking at them for a tenth of a second.

    Returns:
        Their number; 0 where the system does not say, which only Linux does.
    """
    before = _cpu_times()
    time.sleep(_LOOK)
    after = _cpu_times()
    allowed = os.sched_getaffinity(0) if before else ()
    return sum(
        _used(before[cpu], after[cpu]) > _BUSY for cpu in allowed if cpu in before.keys() & after.keys()
    )


def _used(before: tuple[int, int], after: tuple[int, int]) -> float:
    idle, total = after[0] - before[0], after[1] - before[1]
    return 1 - idle / total if total > 0 else 0.0


def _cpu_times() -> dict[int, tuple[int, int]]:
    """Read how long each CPU was idle, and all that it did, since the system started."""
    try:
        lines = _CPU_TIMES.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        if match := re.match(r"cpu(\d+) (.*)", line):
            ticks = [int(number) for number in match[2].split()[:8]]  # what guests use is in the first two
            found[int(match[1])] = (sum(ticks[3:5]), sum(ticks))  # idle, and waiting for a disk
    return found


def cpu_name() -> str:
    """Name the processor as the kernel does, or the architecture where it does not say."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> dict[str, bool]:
    """Tell which of the instruction sets that matter to inference the processor has."""
    flags = set(_cpuinfo("flags").split())
    return {flag: flag in flags for flag in CPU_FLAGS}


def peak_memory() -> int:
    """Return the process's peak resident memory in bytes, or 0 where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # the other way may report the peak of the process that started this one
        peaks = re.findall(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"), flags=re.MULTILINE)
        return int(peaks[0]) * 1024 if peaks else 0
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def allow_open_files(wanted: int) -> int:
    """Let this process have so many files open at a time, or as many as it may; return how many."""
    try:
        import resource
    except ImportError:  # Windows
        return _WINDOWS_FILES
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= wanted:
        return wanted
    more = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, most))
    except (ValueError, OSError):  # macOS has a lower bound of its own
        return allowed
    return more


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for what it takes next.

    Who takes and frees large blocks again and again, as every step of training does, otherwise has the
    system clear each of their pages anew. The peak stays what it is; less is given back after it. Only the
    C library of most Linux systems, glibc, can be told so.

    Returns:
        Whether it could be told.
    """
    if platform.system() != "Linux":
        return False
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    limits = {_MMAP_THRESHOLD: _LARGEST_KEPT, _TRIM_THRESHOLD: 2 * _LARGEST_KEPT - 1}
    return tell is not None and all(tell(option, value) == 1 for option, value in limits.items())


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
