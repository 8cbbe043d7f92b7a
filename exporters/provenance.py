"""Where a version comes from: digests of arrays and files, versions of packages, the revision of the code."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from exporters.errors import PackageMissing
from serving.repository.manifest import Code
from serving.tensors import Array

INSTALL = "pip install 'tidegate[export]'"


def digest_arrays(arrays: Iterable[Array]) -> str:
    """`sha256:<hex>` over types, shapes and contents of the arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return f"sha256:{digest.hexdigest()}"


def package_file(package: str, *path: str) -> Path:
    """A data file inside an installed package, which is not imported. PackageMissing: the package or its file."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder, *path)).is_file():
            return file
    raise PackageMissing(f"The package {package} with {'/'.join(path)} is not installed.", remedy=f"Run: {INSTALL}")


def package_version(distribution: str) -> str:
    """The installed version, such as `scikit-learn 1.9.1`. PackageMissing when there is none."""
    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        raise PackageMissing(f"The package {distribution} is not installed.", remedy=f"Run: {INSTALL}") from None


def code() -> Code:
    """tidegate's version, and the short git revision of its checkout or `unknown`."""
    return Code(revision=_revision(), version=metadata.version("tidegate"))


def _revision() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no caller's text
    return answer.stdout.strip() or "unknown"
