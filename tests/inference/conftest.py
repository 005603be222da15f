"""Fixtures of the inference tests."""

from __future__ import annotations

import pytest

from perceptic.errors import MissingDependencyError
from perceptic.inference import native
from perceptic.inference.native import NativeLibrary, load_library


@pytest.fixture(scope="session")
def kernel_library() -> NativeLibrary:
    """The compiled kernels; tests that want them are skipped on machines that cannot have them."""
    try:
        return load_library()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def library_without_tiles(kernel_library: NativeLibrary) -> NativeLibrary:
    """The kernels as a processor with AVX-512 alone gets them."""
    return native._load(native.default_cache_folder(), has_amx=False)
