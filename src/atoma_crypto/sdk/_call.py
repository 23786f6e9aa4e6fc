"""A call: what is asked, and how to ask. Each method's arguments are written once, in the function that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import Parameter, signature
from typing import Concatenate, ParamSpec, TypeVar

from atoma_crypto.sdk._retries import RetryConfig
from atoma_crypto.sdk._unset import UNSET, Nullable

_Arguments = ParamSpec("_Arguments")
_Self = TypeVar("_Self")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Call:
    """`path` is the plaintext endpoint, `body` what is to be sealed; the rest is for this call alone."""

    path: str
    body: Mapping[str, object] = field(repr=False)
    retries: Nullable[RetryConfig]
    server_url: str | None
    timeout_ms: int | None
    http_headers: Mapping[str, str] | None = field(repr=False)

    def streamed(self, stream: bool) -> Call:
        """The same, its body saying `stream`; a null that the caller gave means False, and stays.

        ValueError: the caller's says the contrary, and another method is for that.
        """
        asked = self.body["stream"]
        if asked is None and not stream:
            return self
        if asked is not UNSET and asked is not stream:
            raise ValueError(f"stream must be {stream} here: create is for whole answers, create_stream for streams")
        return replace(self, body={**self.body, "stream": stream})


def takes(
    make_call: Callable[_Arguments, Call],
) -> Callable[[Callable[[_Self, Call], _Result]], Callable[Concatenate[_Self, _Arguments], _Result]]:
    """Give a method the arguments of `make_call`, and their checks; the method itself gets the Call."""
    arguments = signature(make_call)

    def decorate(method: Callable[[_Self, Call], _Result]) -> Callable[Concatenate[_Self, _Arguments], _Result]:
        @wraps(method)
        def asking(self: _Self, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            return method(self, make_call(*args, **kwargs))

        me = Parameter("self", Parameter.POSITIONAL_ONLY)
        shown = arguments.replace(
            parameters=[me, *arguments.parameters.values()], return_annotation=signature(method).return_annotation
        )
        asking.__doc__ = f"{method.__doc__}\n\n{make_call.__doc__}"
        asking.__signature__ = shown  # type: ignore[attr-defined] # what help() and inspect show
        return asking

    return decorate
