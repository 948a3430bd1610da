"""What a chapter ran on: hashes of the code, versions, the machine."""

import hashlib
import importlib.metadata
import platform
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

#: Files of the package that no chapter imports: they cannot change a chapter's numbers.
NOT_IMPORTED_BY_CHAPTERS = {"runner", "site", "site.py", "authoring.py"}

LIBRARIES = ("torch", "torchvision", "torch-geometric", "numpy", "scipy", "pandas", "scikit-learn", "xgboost")


def shared_sha256(package: Path = PACKAGE) -> str:
    """Hash of the Python files in the shared package that chapters import (names and contents)."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts[0] not in NOT_IMPORTED_BY_CHAPTERS:
            digest.update(f"{relative.as_posix()}\0{path.read_text(encoding='utf-8')}\0".encode())
    return digest.hexdigest()


def lock_sha256(root: Path | None) -> str | None:
    """Hash of the lock file ``requirements.lock`` in a checkout, or None where there is none."""
    lock = root / "requirements.lock" if root else None
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock and lock.exists() else None


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that decide a chapter's numbers."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The processor's name as the operating system gives it, with the machine's architecture as a last resort."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
