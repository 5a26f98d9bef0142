"""NVIDIA's driver as this process sees it, asked without CUDA's own libraries."""

from __future__ import annotations

import ctypes
import platform


def device_name() -> str:
    """Name the first device that NVIDIA's driver shows to this process; empty where there is none."""
    driver, handle, name = _load_driver(), ctypes.c_int(0), ctypes.create_string_buffer(256)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(handle), 0) != 0:
        return ""
    return name.value.decode() if driver.cuDeviceGetName(name, len(name), handle) == 0 else ""


def count_devices() -> int:
    """Count the devices that NVIDIA's driver shows to this process."""
    driver, count = _load_driver(), ctypes.c_int(0)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _load_driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return None
