"""Builds the C core; everything else stands in pyproject.toml."""

import sysconfig

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildExt(build_ext):
    """Some interpreters hand the path that they were built with on to whatever they build. The core needs none."""

    def build_extensions(self) -> None:
        """Link without a run path: the loader would look in that folder first, wherever the wheel is installed."""
        if self.compiler.compiler_type == "unix":
            self.compiler.linker_so = [word for word in self.compiler.linker_so if not word.startswith("-Wl,-rpath")]
        super().build_extensions()


abi3 = not sysconfig.get_config_var("Py_GIL_DISABLED")  # free-threaded CPython has no stable ABI yet
setup(
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if abi3 else {},
)
