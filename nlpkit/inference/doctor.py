"""A look at the machine and the installation: what is there, what works, and the line that mends what does not."""

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from nlpkit import __version__
from nlpkit.inference.loading import hub_cache
from nlpkit.text.line_workers import processors

# Distribution → module. All of them are dependencies of the base installation.
NEEDED = {
    "typer": "typer",
    "rich": "rich",
    "numpy": "numpy",
    "torch": "torch",
    "tokenizers": "tokenizers",
    "transformers": "transformers",
    "safetensors": "safetensors",
    "faiss-cpu": "faiss",
    "numba": "numba",
    "PyStemmer": "Stemmer",
    "zstandard": "zstandard",
    "matplotlib": "matplotlib",
}
OPTIONAL = {"scikit-learn": "digits"}  # distribution → the extra that brings it
MIB = 2**20


class Row(NamedTuple):
    """One line: ``state`` is ok, absent (and not needed) or broken (then ``remedy`` says what to run)."""

    name: str
    value: str
    state: str = "ok"
    remedy: str = ""


def examine() -> list[Row]:
    """Every check in the order in which it is shown. Opens no network connection and leaves no file."""
    return [*_software(), *_machine(), *_places(), *_working()]


def _minimum() -> dict[str, str]:
    """Distribution → least version, as the installed package declares them."""
    try:
        lines = importlib.metadata.requires("nlpkit") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w.-]+)\s*>=\s*([\d.]+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _software() -> Iterator[Row]:
    old = sys.version_info < (3, 11)
    yield Row(
        "python",
        f"{platform.python_version()} ({sys.executable})",
        "broken" if old else "ok",
        "install Python 3.11 or later" if old else "",
    )
    yield Row("nlpkit", __version__)
    least = _minimum()
    for name in NEEDED:
        wanted = least.get(name.lower(), "0")
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Row(name, "not installed", "broken", f"run: pip install '{name}>={wanted}'")
            continue
        if _numbers(version) < _numbers(wanted):
            yield Row(name, f"{version} is too old", "broken", f"run: pip install '{name}>={wanted}'")
        else:
            yield Row(name, version)
    for name, extra in OPTIONAL.items():
        try:
            yield Row(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Row(name, f"not installed (pip install 'nlpkit[{extra}]')", "absent")


def _cpu_info(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    match = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else ""


def memory_bytes() -> tuple[int, int]:
    """(total, free for use) in bytes: the machine's, or the container's limit where that is lower; 0 = unknown."""
    try:
        text = Path("/proc/meminfo").read_text()
        size = {k: int(v) * 1024 for k, v in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
        total, free = size["MemTotal"], size["MemAvailable"]
    except (OSError, KeyError):
        try:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError):
            return 0, 0
        return total, 0
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, free = min(total, limit), min(free, max(limit - used, 0))
    except (OSError, ValueError):
        pass  # no limit
    return total, free


def _machine() -> Iterator[Row]:
    yield Row("cpu", _cpu_info("model name") or platform.processor() or platform.machine())
    yield Row("cores", f"{processors()} usable of {os.cpu_count()}")
    total, free = memory_bytes()
    yield Row("memory", f"{total / MIB / 1024:.1f} GiB, {free / MIB / 1024:.1f} GiB free")
    flags = set((_cpu_info("flags") or _cpu_info("Features")).split())
    units = [name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in flags]
    yield Row("bf16 on the cpu", f"in hardware ({', '.join(units)})" if units else "emulated: use fp32")
    yield _gpu()


def _gpu() -> Row:
    try:
        import torch

        if torch.cuda.is_available():
            name, size = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
            bf16 = "with bf16" if torch.cuda.is_bf16_supported() else "without bf16"
            return Row("gpu", f"{torch.cuda.device_count()} × {name}, {size / MIB / 1024:.0f} GiB, {bf16}")
        if torch.backends.mps.is_available():
            return Row("gpu", "Apple MPS")
    except (ImportError, OSError, RuntimeError) as fault:
        return Row("gpu", f"cannot be asked ({type(fault).__name__})", "absent")
    return Row("gpu", "none: everything runs on the processor", "absent")


def _places() -> Iterator[Row]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    yield Row("free disk", f"{free / MIB / 1024:.1f} GiB at {here}")
    try:
        with tempfile.TemporaryFile(dir=here) as file:
            file.write(b"nlpkit")
            file.flush()
            os.fsync(file.fileno())
        yield Row("write access", str(here))
    except OSError as fault:
        yield Row(
            "write access", f"{here}: {fault.strerror}", "broken", "change to a folder that you may write to"
        )
    cache = hub_cache()
    models = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    yield Row("Hugging Face cache", f"{cache} ({models} models)", "ok" if models else "absent")
    yield Row("network", "not used: models are read from folders and from the local cache")


def _torch_works() -> bool:
    import torch

    return bool(
        torch.equal(torch.tensor([[1.0, 2.0]]) @ torch.tensor([[3.0], [4.0]]), torch.tensor([[11.0]]))
    )


def _faiss_works() -> bool:
    import faiss
    import numpy as np

    index = faiss.IndexFlatIP(2)
    index.add(np.eye(2, dtype=np.float32))
    return bool(index.search(np.array([[0.0, 1.0]], dtype=np.float32), 1)[1][0, 0] == 1)


def _numba_works() -> bool:
    import numba

    @numba.njit  # type: ignore[untyped-decorator, unused-ignore]
    def double(x: int) -> int:
        return 2 * x

    return bool(double(21) == 42)


def _working() -> Iterator[Row]:
    checks: dict[str, tuple[str, Callable[[], bool]]] = {
        "torch works": ("torch", _torch_works),
        "faiss works": ("faiss-cpu", _faiss_works),
        "numba works": ("numba", _numba_works),
    }
    for name, (package, works) in checks.items():
        remedy = f"run: pip install --force-reinstall {package}"
        try:
            right = works()
        except Exception as fault:  # whatever a broken binary raises is the finding
            first = (str(fault).splitlines() or [""])[0]
            yield Row(name, f"no: {type(fault).__name__}: {first}", "broken", remedy)
            continue
        yield Row(name, "yes") if right else Row(name, "no: a wrong result", "broken", remedy)
