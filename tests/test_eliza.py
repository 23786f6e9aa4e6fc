"""The built-in model: what it says, and that it says it in OpenAI's shapes."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from atoma_crypto.adapters._routes import BY_PLAINTEXT
from atoma_crypto.server import eliza
from atoma_crypto.server.eliza import ElizaModel, reflect
from atoma_crypto.server.eliza_phrases import OPENING
from atoma_crypto.server.eliza_script import RULES
from atoma_crypto.server.eliza_topics import TOPICS
from atoma_crypto.server.model import Answer, InferenceError, Model

CHAT = BY_PLAINTEXT["/v1/chat/completions"]
TOOLS = [
    {"type": "function", "function": {"name": "look_up", "parameters": {}}},
    {"type": "function", "function": {"name": "roll_dice", "parameters": {}}},
]


def request(*texts: str, **fields: object) -> bytes:
    """Make a request whose messages are the user's and the assistant's in turn, the user's last."""
    roles = ["user", "assistant"]
    first = (len(texts) + 1) % 2
    messages = [{"role": roles[(first + i) % 2], "content": text} for i, text in enumerate(texts)]
    return json.dumps({"model": "eliza", "messages": messages} | fields).encode()


def complete(body: bytes, seed: int | None = 7) -> dict[str, Any]:
    answer = asyncio.run(ElizaModel(seed).complete(CHAT, body))
    completion: dict[str, Any] = json.loads(answer.plaintext)
    assert answer.usage == completion["usage"]
    return completion


def stream(body: bytes, seed: int | None = 7) -> list[dict[str, Any]]:
    async def collect() -> list[Answer]:
        return [answer async for batch in ElizaModel(seed).stream(CHAT, body) for answer in batch]

    answers = asyncio.run(collect())
    chunks: list[dict[str, Any]] = [json.loads(answer.plaintext) for answer in answers]
    assert [answer.usage for answer in answers] == [chunk.get("usage") for chunk in chunks]
    return chunks


def said(body: bytes, seed: int | None = 7) -> str:
    content = complete(body, seed)["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def streamed(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])


def all_said(body: bytes) -> set[str]:
    return {said(body, seed) for seed in range(40)}


def test_it_is_a_model_that_serves_one_name() -> None:
    model: Model = ElizaModel()
    assert model.serves("eliza")
    assert not model.serves("Eliza-2")
    asyncio.run(model.aclose())


# --- OpenAI's shapes ---


def test_a_completion_has_openai_s_shape() -> None:
    completion = complete(request("Hello there"))
    assert completion["object"] == "chat.completion"
    assert completion["model"] == "eliza"
    assert completion["id"].startswith("chatcmpl-")
    (choice,) = completion["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] == "stop"
    words = len(choice["message"]["content"].split())
    assert completion["usage"] == {"prompt_tokens": 2, "completion_tokens": words, "total_tokens": 2 + words}


def test_a_stream_is_role_words_end_usage() -> None:
    chunks = stream(request("Hello"))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    first, *words, end, usage = chunks
    assert first["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert all(len(chunk["choices"][0]["delta"]["content"].split()) == 1 for chunk in words)
    assert end["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(words)


@pytest.mark.parametrize("text", ["Hello", "I am sad", "Tell me of nonces", "Ich weiß nicht", "", "  \n"])
def test_a_stream_joins_to_the_completion(text: str) -> None:
    body = request("My dog is ill.", "What is it like?", text)
    assert streamed(stream(body)) == said(body) != ""


def test_ids_are_not_to_be_guessed() -> None:
    ids = {complete(request("Hello"))["id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(len(bytes.fromhex(each.removeprefix("chatcmpl-"))) == 16 for each in ids)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_limit_cuts_after_that_many_words(name: str, limit: int) -> None:
    body = request("What is a nonce?", **{name: limit})
    whole = said(request("What is a nonce?"))
    completion, chunks = complete(body), stream(body)
    assert said(body) == streamed(chunks) == " ".join(whole.split()[:limit])
    assert completion["choices"][0]["finish_reason"] == "length"
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert completion["usage"]["completion_tokens"] == chunks[-1]["usage"]["completion_tokens"] == limit


@pytest.mark.parametrize("limit", [1000, None, True, "3", -1])
def test_a_limit_that_is_none_cuts_nothing(limit: object) -> None:
    completion = complete(request("What is a nonce?", max_tokens=limit))
    assert completion["choices"][0]["finish_reason"] == "stop"


def test_a_limit_of_exactly_the_answer_s_length_is_a_stop() -> None:
    words = len(said(request("What is a nonce?")).split())
    completion = complete(request("What is a nonce?", max_tokens=words))
    assert completion["choices"][0]["finish_reason"] == "stop"


def test_content_may_be_a_list_of_parts() -> None:
    parts = [
        {"type": "text", "text": "I want"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "a boat"},
    ]
    body = json.dumps({"model": "eliza", "messages": [{"role": "user", "content": parts}]}).encode()
    assert said(body) == said(request("I want a boat"))


def test_tools_alone_change_nothing() -> None:
    assert said(request("I want a boat", tools=TOOLS)) == said(request("I want a boat"))
    assert said(request("I want a boat", tools=TOOLS, tool_choice="auto")) == said(request("I want a boat"))
    assert said(request("I want a boat", tools=TOOLS, tool_choice="none")) == said(request("I want a boat"))


@pytest.mark.parametrize(
    ("choice", "name"),
    [("required", "look_up"), ({"type": "function", "function": {"name": "roll_dice"}}, "roll_dice")],
)
def test_a_chosen_tool_is_called(choice: object, name: str) -> None:
    body = request("Roll!", tools=TOOLS, tool_choice=choice)
    completion = complete(body)
    (chosen,) = completion["choices"]
    (call,) = chosen["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"] == {"name": name, "arguments": "{}"}
    assert chosen["finish_reason"] == "tool_calls"

    first, called, end, usage = stream(body)
    assert first["choices"][0]["delta"]["role"] == "assistant"
    (call,) = called["choices"][0]["delta"]["tool_calls"]
    assert call["index"] == 0
    assert call["function"] == {"name": name, "arguments": "{}"}
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["usage"] == completion["usage"]


@pytest.mark.parametrize("tools", [None, [], ["odd"], [{"function": "odd"}], [{"function": {"name": 3}}]])
def test_required_without_a_tool_to_call_is_answered_in_words(tools: object) -> None:
    assert said(request("I want a boat", tools=tools, tool_choice="required")) == said(request("I want a boat"))


def test_a_tool_s_result_is_told() -> None:
    messages = [
        {"role": "user", "content": "Roll!"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "tool_call_id": "call_1", "content": "{a six}"},
    ]
    assert "{a six}" in said(json.dumps({"model": "eliza", "messages": messages}).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages":"Hello"}', b"\xff", b"[" * 100_000])
def test_what_is_no_request_is_an_inference_error(body: bytes) -> None:
    with pytest.raises(InferenceError) as refused:
        complete(body)
    assert refused.value.status == 400
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "messages", [[], [{}], ["Hello"], [{"role": "user"}], [{"role": "user", "content": None}], [{"role": 3}]]
)
def test_empty_messages_are_greeted(messages: object) -> None:
    assert said(json.dumps({"model": "eliza", "messages": messages}).encode()) in OPENING
    assert said(b"{}") in OPENING


def test_half_a_surrogate_pair_does_no_harm() -> None:
    body = rb'{"model":"eliza","messages":[{"role":"user","content":"I want \ud83d boats"}]}'
    assert streamed(stream(body)) == said(body)


# --- the conversation ---


def test_a_seed_makes_it_deterministic_and_another_seed_another() -> None:
    body = request("My cat sings.", "Does it?", "I want a boat")
    assert said(body) == said(body)
    assert len(all_said(body)) > 1


def test_without_a_seed_it_varies() -> None:
    assert len({said(request("I want a boat"), None) for _ in range(60)}) > 1


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("I am tired", "you are tired"),
        ("you are tired", "I am tired"),
        ("my keys and yours", "your keys and mine"),
        ("I was told that you were here", "you were told that I was here"),
        ("he gave me to you", "he gave you to me"),
        ("you gave it to you know whom", "I gave it to me know whom"),
        ("myself, and what I'm", "yourself, and what you're"),
        ("You've hurt yourself.", "I've hurt myself"),
        ("am I right?", "are you right"),
        ("the Iris of the mine-owner", "the Iris of the yours-owner"),
        ("Zoë und ich", "Zoë und ich"),
    ],
)
def test_pronouns_are_turned_round(text: str, turned: str) -> None:
    assert reflect(text) == turned


def test_what_the_user_said_comes_back_turned_round() -> None:
    answers = all_said(request("I want to see my sister"))
    assert any("see your sister" in answer for answer in answers)
    assert not any("{" in answer for answer in answers)


def test_unicode_comes_back_whole() -> None:
    assert any("ein Bild von Zoë 🎨" in answer for answer in all_said(request("I want ein Bild von Zoë 🎨")))
    assert all_said(request("I\N{RIGHT SINGLE QUOTATION MARK}m afraid")) == all_said(request("I'm afraid"))


def test_braces_of_the_user_are_no_placeholders() -> None:
    assert any("a {0} {x}" in answer for answer in all_said(request("I want a {0} {x}")))


def test_the_weightiest_word_wins_wherever_it_stands() -> None:
    about_nonces = all_said(request("What is a nonce?"))
    assert all_said(request("Hello, I am sad about my dog. And a nonce, what is it?")) == about_nonces


def test_it_remembers_from_the_messages_alone() -> None:
    spoken_of = all_said(request("My sister paints.", "Does she?", "Zzz."))
    assert any("your sister" in answer for answer in spoken_of)
    assert not any("your sister" in answer for answer in all_said(request("Zzz.")))


def test_it_knows_a_name_that_it_was_told() -> None:
    answers = all_said(request("Call me Zoë.", "Gladly.", "What is my name?"))
    assert all("Zoë" in answer for answer in answers)
    assert not any("Zoë" in answer for answer in all_said(request("What is my name?")))


def test_it_notices_the_same_words_again() -> None:
    again = all_said(request("I want a boat", "Why?", "I want a boat"))
    assert not again & all_said(request("I want a boat"))


def test_it_does_not_repeat_itself_while_it_has_more_to_say() -> None:
    texts: list[str] = []
    for question in ("What is a nonce?", "A nonce?", "So what is this nonce?", "Nonces, then?"):
        texts += [question, said(request(*texts, question))]
    answers = texts[1::2]
    assert len(set(answers)) == len(answers)


@pytest.mark.parametrize(
    ("question", "truth"),
    [
        ("How is this encrypted?", "AES-256-GCM"),
        ("What is the key?", "X25519|fingerprint"),
        ("Is this private?", "ends|node|length"),
        ("What can the router see?", "sealed|reorder|weight"),
        ("Do you run in a TEE?", "attestation|evidence"),
        ("What's a nonce?", "once|Twelve"),
        ("What about a quantum computer?", "ML-KEM"),
        ("Is a hash sent?", "BLAKE2b"),
    ],
)
def test_it_knows_what_the_library_does(question: str, truth: str) -> None:
    answers = all_said(request(question))
    assert answers
    assert all(any(word in answer for word in truth.split("|")) for answer in answers)


def test_a_person_in_danger_is_sent_to_people() -> None:
    assert all("emergency" in answer for answer in all_said(request("My key is lost and I want to die")))


def test_every_answer_fits_its_pattern() -> None:
    for rule in (*TOPICS, *RULES):
        caught = ["x"] * rule.pattern.groups
        for answer in rule.answers:
            assert answer.format(*caught)  # an IndexError if the pattern catches too little


def test_a_very_long_message_is_answered() -> None:
    body = request("you you me " * 200_000)
    assert complete(body)["usage"]["prompt_tokens"] == 600_000


@pytest.mark.parametrize("name", ["max_completion_tokens", "max_tokens"])
def test_a_limit_that_is_null_leaves_it_to_the_other(name: str) -> None:
    limits = {"max_completion_tokens": 2, "max_tokens": 2} | {name: None}
    assert complete(request("Hello", **limits))["usage"]["completion_tokens"] == 2


def test_white_space_of_any_length_is_counted_in_no_time() -> None:
    body = request("one " + " " * 1_000_000 + "two" + " " * 1_000_000)
    assert complete(body)["usage"]["prompt_tokens"] == 2


def test_a_reply_is_made_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    real = eliza.converse

    def recording(*args: Any) -> str:
        threads.append(threading.current_thread())
        return real(*args)

    monkeypatch.setattr(eliza, "converse", recording)
    complete(request("Hello"))
    stream(request("Hello"))
    assert len(threads) == 2
    assert threading.current_thread() not in threads
