"""Threads that do everything that can be done, all at once, to one object of each class.

What is public is looked up in the classes, so that a method which is added must be added to `faulty_lives`. Each gives
what it should, or raises what is documented for it; nothing is given twice; and the object can be closed in the end.
When it has ended another takes its place, until each method that can succeed has done so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

import atoma_crypto as ac
from atoma_crypto import hazmat
from faulty_life import Life
from faulty_lives import LIVES
from helpers import REPLY_BODY, new_client, node_key
from programs import run_program
from threads import run

MOST_LIVES: Final = 60
MAKE: Final = dict(LIVES)


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_nothing_public_is_left_out() -> None:
    handles = {
        kind
        for module in (ac, hazmat)
        for name in module.__all__
        if isinstance(kind := getattr(module, name), type) and hasattr(kind, "close") and kind is not ac.ReplayCache
    }
    lives = [make() for make in MAKE.values()]
    assert {life.kind for life in lives} == handles
    for life in lives:
        assert type(life.one) is life.kind
        assert life.names() == public(life.kind), life.kind
    # what cannot succeed on one object of a class can on another
    for kind in handles:
        assert not set.intersection(*(set(life.never) for life in lives if life.kind is kind))


def live(life: Life, rounds: int) -> None:
    """All calls but those that end the object; and from the middle on those, too. What succeeds is no more `wanted`."""
    names = sorted(life.names())

    def work(_: int) -> None:
        at, first_end = 0, rounds // 2 + random.randrange(9)
        for _ in range(20 * rounds):
            name = random.choice([name for name in names if name not in life.ends or at > first_end])
            done = life.do(name)
            if done:
                life.wanted.discard(name)
            if done is None:
                time.sleep(0)  # another thread is in the way, or has to come first
            else:
                at += 1
            if at == rounds:
                break

    run(work)
    life.one.close()
    life.one.close()
    assert "closed" in repr(life.one)
    life.judge()


def hammer(make: Callable[[], Life], rounds: int = 40, lives: int = 4) -> None:
    """That many lives; and more of them, until each method that can succeed has done so."""
    left = make().wanted
    for number in range(MOST_LIVES):
        life = make()
        live(life, rounds)
        left &= life.wanted
        if not left and number + 1 >= lives:
            return
    raise AssertionError(f"never succeeded: {left}")


@pytest.mark.parametrize("name", MAKE)
def test_threads_do_everything_at_once(name: str) -> None:
    hammer(MAKE[name])


# ---- what has to be noticed -----------------------------------------------------------------------------------------


def gives_garbage(*_: Any, **__: Any) -> bytes:
    return b"garbage"


def raises_what_it_never_should(*_: Any, **__: Any) -> None:
    raise ac.NativeError("planted")


def raises_what_another_may(*_: Any, **__: Any) -> None:
    raise ac.UnknownKeyError("planted")


FAULTS: Final = (
    gives_garbage,
    raises_what_it_never_should,
    pytest.param(raises_what_another_may, marks=pytest.mark.long),
)


def plant(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, fault: Callable[..., Any]) -> None:
    """Where what is public has been looked up, as it was: a property, or what is called of the class."""
    as_it_was = next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
    if isinstance(as_it_was, classmethod):
        monkeypatch.setattr(kind, name, classmethod(fault))
    elif callable(as_it_was):
        monkeypatch.setattr(kind, name, fault)
    else:  # a member of `__slots__` is set, too
        monkeypatch.setattr(kind, name, property(fault, lambda _, __: None), raising=False)


def is_noticed(make: Callable[[], Life]) -> bool:
    try:
        hammer(make, lives=MOST_LIVES)  # mostly the first one shows it
    except Exception:  # noqa: BLE001 - whatever garbage may lead to
        return True
    return False


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", MAKE)
def test_a_fault_in_any_method_is_noticed(
    name: str, fault: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = MAKE[name]().kind
    unseen = []
    for method in public(kind):
        with monkeypatch.context() as patch:
            plant(patch, kind, method, fault)
            if not is_noticed(MAKE[name]):
                unseen.append(method)
    assert not unseen
    hammer(MAKE[name])  # the faults are gone


def test_what_is_given_twice_or_wrongly_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def once_more(kind: type, method: str) -> Callable[..., Any]:
        """Every call gives what the first one of the same object has given, an end or nothing yet apart."""
        true, first = getattr(kind, method), {}

        def given(self: Any, *arguments: Any, **options: Any) -> Any:
            if id(self) not in first:
                result = true(self, *arguments, **options)
                if result is ac.NEED_DATA or isinstance(result, ac.EndOfStream):
                    return result
                first[id(self)] = self, result
            return first[id(self)][1]

        return given

    for name, method in (
        ("NodeSession v1 stream", "seal_chunk"),
        ("NodeSession v2 stream", "seal_chunks"),
        ("NodeSession v2 whole", "open_request"),
        ("ClientSession v1 stream", "next_event"),
        ("ClientSession v1 whole", "seal_request"),
        ("MemoryReplayCache", "admit"),
        ("Sealer", "seal"),
        ("HPKEContext sender", "seal"),
        ("HPKEContext recipient", "open"),
        ("NodeKeyring", "rotate"),
        ("AES256GCM", "seal"),
    ):
        kind = MAKE[name]().kind
        with monkeypatch.context() as patch:
            patch.setattr(kind, method, once_more(kind, method))
            assert is_noticed(MAKE[name]), (name, method)


def test_a_request_goes_to_many_threads_and_one_answers() -> None:
    store = ac.MemoryReplayCache(fresh_key=True)
    envelope = new_client(protocol="v2").seal_request(REPLY_BODY, stream=False)
    admitted: list[int] = []

    def work(number: int) -> None:
        try:
            ac.NodeSession(node_key(), replay_cache=store).open_request(envelope)
            admitted.append(number)
        except ac.ReplayedError:
            pass

    run(work)
    assert len(admitted) == 1


@pytest.mark.long
def test_for_longer_in_developers_mode() -> None:
    code = "import test_faults_threads as t\nfor make in t.MAKE.values(): t.hammer(make, 120, 6)\n"
    done = run_program("-X", "dev", "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
