"""Builds the C core; everything else stands in pyproject.toml."""

import sysconfig

from setuptools import setup

abi3 = not sysconfig.get_config_var("Py_GIL_DISABLED")  # free-threaded CPython has no stable ABI yet
setup(
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if abi3 else {},
)
