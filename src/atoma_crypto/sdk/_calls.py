"""What each endpoint takes. These functions are the signatures of the methods, and check all that is checked.

`retries`: when to ask again for this call (None: never; UNSET: as the SDK does). `server_url`, `timeout_ms`
(milliseconds that each step on the connection may take) and `http_headers` (added, or replacing) are for this call
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from atoma_crypto.sdk._call import Call
from atoma_crypto.sdk._checks import check_count, check_messages, check_number, check_stop, check_text
from atoma_crypto.sdk._retries import RetryConfig
from atoma_crypto.sdk._unset import UNSET, Nullable
from atoma_crypto.sdk.models import ChatCompletionMessage

Headers: TypeAlias = Mapping[str, str]


def chat_call(
    *,
    messages: Sequence[ChatCompletionMessage | Mapping[str, Any]],
    model: str,
    frequency_penalty: Nullable[float] = UNSET,
    function_call: Any = UNSET,
    functions: Nullable[Sequence[Any]] = UNSET,
    logit_bias: Nullable[Mapping[str, float]] = UNSET,
    max_tokens: Nullable[int] = UNSET,
    n: Nullable[int] = UNSET,
    presence_penalty: Nullable[float] = UNSET,
    response_format: Any = UNSET,
    seed: Nullable[int] = UNSET,
    stop: Nullable[str | Sequence[str]] = UNSET,
    stream: Nullable[bool] = UNSET,
    temperature: Nullable[float] = UNSET,
    tool_choice: Any = UNSET,
    tools: Nullable[Sequence[Any]] = UNSET,
    top_p: Nullable[float] = UNSET,
    user: Nullable[str] = UNSET,
    retries: Nullable[RetryConfig] = UNSET,
    server_url: str | None = None,
    timeout_ms: int | None = None,
    http_headers: Headers | None = None,
) -> Call:
    """`frequency_penalty` and `presence_penalty` -2 to 2, `temperature` 0 to 2, `top_p` 0 to 1, up to four `stop`s."""
    check_messages(messages)
    check_text("model", model)
    _check_sampling(frequency_penalty, presence_penalty, temperature, top_p, stop)
    check_count("max_tokens", max_tokens, 1)
    check_count("n", n, 1)
    body = {
        "messages": messages,
        "model": model,
        "frequency_penalty": frequency_penalty,
        "function_call": function_call,
        "functions": functions,
        "logit_bias": logit_bias,
        "max_tokens": max_tokens,
        "n": n,
        "presence_penalty": presence_penalty,
        "response_format": response_format,
        "seed": seed,
        "stop": stop,
        "stream": stream,
        "temperature": temperature,
        "tool_choice": tool_choice,
        "tools": tools,
        "top_p": top_p,
        "user": user,
    }
    return Call("/v1/chat/completions", body, retries, server_url, timeout_ms, http_headers)


def completions_call(
    *,
    prompt: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],
    model: str,
    best_of: Nullable[int] = UNSET,
    echo: Nullable[bool] = UNSET,
    frequency_penalty: Nullable[float] = UNSET,
    logit_bias: Nullable[Mapping[str, float]] = UNSET,
    logprobs: Nullable[int] = UNSET,
    max_tokens: Nullable[int] = UNSET,
    n: Nullable[int] = UNSET,
    presence_penalty: Nullable[float] = UNSET,
    seed: Nullable[int] = UNSET,
    stop: Nullable[str | Sequence[str]] = UNSET,
    stream: Nullable[bool] = UNSET,
    suffix: Nullable[str] = UNSET,
    temperature: Nullable[float] = UNSET,
    top_p: Nullable[float] = UNSET,
    user: Nullable[str] = UNSET,
    retries: Nullable[RetryConfig] = UNSET,
    server_url: str | None = None,
    timeout_ms: int | None = None,
    http_headers: Headers | None = None,
) -> Call:
    """As for chat; `max_tokens` may be 0, which with `echo` gives the prompt's own log probabilities."""
    check_text("model", model)
    _check_sampling(frequency_penalty, presence_penalty, temperature, top_p, stop)
    check_count("max_tokens", max_tokens, 0)
    check_count("n", n, 1)
    check_count("best_of", best_of, 1)
    check_count("logprobs", logprobs, 0)
    body = {
        "prompt": prompt,
        "model": model,
        "best_of": best_of,
        "echo": echo,
        "frequency_penalty": frequency_penalty,
        "logit_bias": logit_bias,
        "logprobs": logprobs,
        "max_tokens": max_tokens,
        "n": n,
        "presence_penalty": presence_penalty,
        "seed": seed,
        "stop": stop,
        "stream": stream,
        "suffix": suffix,
        "temperature": temperature,
        "top_p": top_p,
        "user": user,
    }
    return Call("/v1/completions", body, retries, server_url, timeout_ms, http_headers)


def embeddings_call(
    *,
    input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]],  # noqa: A002 - the API's name
    model: str,
    dimensions: Nullable[int] = UNSET,
    encoding_format: Nullable[str] = UNSET,
    user: Nullable[str] = UNSET,
    retries: Nullable[RetryConfig] = UNSET,
    server_url: str | None = None,
    timeout_ms: int | None = None,
    http_headers: Headers | None = None,
) -> Call:
    """`encoding_format`: "float" or "base64"."""
    check_text("model", model)
    check_count("dimensions", dimensions, 1)
    body = {
        "input": input,
        "model": model,
        "dimensions": dimensions,
        "encoding_format": encoding_format,
        "user": user,
    }
    return Call("/v1/embeddings", body, retries, server_url, timeout_ms, http_headers)


def images_call(
    *,
    prompt: str,
    model: str,
    n: Nullable[int] = UNSET,
    quality: Nullable[str] = UNSET,
    response_format: Nullable[str] = UNSET,
    size: Nullable[str] = UNSET,
    style: Nullable[str] = UNSET,
    user: Nullable[str] = UNSET,
    retries: Nullable[RetryConfig] = UNSET,
    server_url: str | None = None,
    timeout_ms: int | None = None,
    http_headers: Headers | None = None,
) -> Call:
    """`size` as "1024x1024", which is what is locked if it is not given; times `n`."""
    check_text("prompt", prompt)
    check_text("model", model)
    check_count("n", n, 1)
    body = {
        "prompt": prompt,
        "model": model,
        "n": n,
        "quality": quality,
        "response_format": response_format,
        "size": size,
        "style": style,
        "user": user,
    }
    return Call("/v1/images/generations", body, retries, server_url, timeout_ms, http_headers)


def _check_sampling(
    frequency_penalty: object, presence_penalty: object, temperature: object, top_p: object, stop: object
) -> None:
    check_number("frequency_penalty", frequency_penalty, -2, 2)
    check_number("presence_penalty", presence_penalty, -2, 2)
    check_number("temperature", temperature, 0, 2)
    check_number("top_p", top_p, 0, 1)
    check_stop(stop)
