"""Calls of libraries that read what a stranger has sent."""

from collections.abc import Callable
from typing import TypeVar

from atoma_crypto._errors import AttestationError

_T = TypeVar("_T")


def guarded(failing: str, call: Callable[[], _T]) -> _T:
    """What `call` gives; whatever else is an AttestationError that says what is `failing`, and the library's words.

    The libraries are written in Rust: a panic of theirs is no Exception.
    """
    try:
        return call()
    except AttestationError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the evidence is not good
        said = str(error) or type(error).__name__
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        said = "the library panicked"
    said = "".join(filter(str.isprintable, said))[:200]
    raise AttestationError(f"{failing}: {said}")  # out here: without the other one as its context
