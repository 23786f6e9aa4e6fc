"""The demo as people run it, and that its check can fail."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from rich.console import Console, RenderableType

import atoma_crypto as ac
from atoma_crypto.adapters._routes import Endpoint
from atoma_crypto.cli import _show, _view, main
from atoma_crypto.cli._leak import Search, search
from atoma_crypto.cli._proxy import Connection, RecordingProxy
from atoma_crypto.cli._wire import Sight, look
from atoma_crypto.server.eliza import ElizaModel
from atoma_crypto.server.model import Answer
from programs import unmeasured

DEMO = [sys.executable, "-m", "atoma_crypto", "demo"]
FIGURES = re.compile(
    r"(\d+) events, ([\d,]+) bytes; µs per event: [\d.]+ to seal, [\d.]+ to open \(v1: [\d.]+, [\d.]+\)$"
)


def figures_of(text: str) -> re.Match[str] | None:
    """The last line, which is wrapped where the machine is slow and its figures are long."""
    return FIGURES.search(" ".join(text.split()))


def environment(inherited: Mapping[str, str] = os.environ, /, **extra: str) -> dict[str, str]:
    """Leave out what changes how rich draws."""
    mine = {"COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "TERM"}
    kept = {name: value for name, value in inherited.items() if name not in mine}
    return kept | {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error"} | extra


def run(*arguments: str, stdin: str = "", **extra: str) -> str:
    """Run the demo into a pipe and return what it wrote."""
    done = subprocess.run(
        [*DEMO, *arguments],
        input=stdin.encode(),
        capture_output=True,
        env=environment(**extra),
        timeout=60,
        check=False,
    )
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout.decode(extra.get("PYTHONIOENCODING", "utf-8"))


def columns(text: str) -> tuple[str, str]:
    """Take the turns' pictures apart: all of the left side, all of the right."""
    lines = [line for line in text.splitlines() if line.count("│") == 3 and "the client reads" not in line]
    rows = [line.split("│")[1:3] for line in lines]
    left, right = zip(*rows, strict=True)
    return " ".join(" ".join(left).split()), " ".join(" ".join(right).split())


@pytest.fixture(scope="module")
def logged() -> str:
    return run()


# --- in a log ---


def test_a_log_has_no_control_codes_and_narrow_lines(logged: str) -> None:
    assert set(re.findall(r"[\x00-\x1f\x7f]", logged)) == {"\n"}
    assert max(map(len, logged.splitlines())) <= 80


def test_the_client_s_side_reads_and_the_router_s_does_not(logged: str) -> None:
    left, right = columns(logged)
    assert logged.count("the client reads") == logged.count("the router sees") - 1 == 4
    for prompt in (*_show.PROMPTS, _show.OLD_PROMPT):
        assert prompt in left
        assert not any(word in right for word in prompt.split() if len(word) >= 6)
    assert "POST /v1/confidential/chat/completions" in right
    assert "model_name eliza" in right
    assert right.count("completion_tokens") == 4
    assert right.count("sent_at") == 3
    assert right.count("hash") == 1


def test_an_event_of_each_protocol_is_shown_as_recorded_and_as_opened(logged: str) -> None:
    blocks = [
        "".join(line[2:-2] for line in block.splitlines()).rstrip()
        for block in re.findall(r"╭─ the (?:data|same).*\n((?:│.*\n)+)", logged)
    ]
    assert len(blocks) == 4
    v2, opened, v1, old_opened = (json.loads(block) for block in blocks)
    assert list(v2) == ["ciphertext"]
    assert len(base64.b64decode(v1["nonce"])) == 12
    assert len(base64.b64decode(v1["response_hash"])) == 32
    for event, block, chunk in ((v2, blocks[1], opened), (v1, blocks[3], old_opened)):
        assert len(base64.b64decode(event["ciphertext"])) == len(block.encode()) + 16
        assert chunk["choices"][0]["delta"]["content"]


def test_what_each_protocol_leaves_in_clear_is_said_v2_first(logged: str) -> None:
    words = " ".join(logged.split())
    first, _, second = words.partition("a turn of protocol v1")
    assert "In clear in v2: endpoint, model_name, stack_small_id" in first
    assert "In clear in v1: model_name, stack_small_id, every length" in second
    assert "unkeyed hash" in second


def test_the_check_and_the_figures_end_it(logged: str) -> None:
    figures = figures_of(logged)
    assert figures is not None
    shown = [int(count) for count in re.findall(r"(\d+) events, [\d,]+ bytes +│", logged)]
    assert int(figures[1]) == sum(shown)
    assert len(shown) == 4
    checked = re.search(r"Checked: (\d+) different words were said", logged)
    assert checked is not None
    assert int(checked[1]) > 30
    claim = " ".join(logged.split())
    assert (
        f"In the {figures[2]} recorded bytes none of them stands as a word outside of base64, none of 8 letters or "
        "more stands anywhere, and none of 6 or more is in what base64 decodes to." in claim
    )


@pytest.mark.long
def test_no_two_runs_carry_the_same_ciphertext(logged: str) -> None:
    heads = re.findall(r"([\w+/]{24})… \d+ bytes", logged)
    assert len(heads) == len(set(heads)) >= 15
    assert not set(heads) & set(re.findall(r"([\w+/]{24})… \d+ bytes", run()))


def test_a_terminal_without_its_characters_is_no_obstacle() -> None:
    assert "turn 3 of 3" in run(PYTHONIOENCODING="ascii")


@pytest.mark.parametrize(
    "end",
    ["/quit\n", *(pytest.param(end, marks=pytest.mark.long) for end in ("", "\n", "\nI am not read any more.\n"))],
)
def test_chat_goes_on_until_the_input_ends(end: str) -> None:
    text = run("--chat", stdin="I want to paint Zoë\nCan you see my painting?\n" + end)
    left, right = columns(text)
    assert text.count("turn 4\n") == text.count("turn 5\n") == 1
    assert "turn 6" not in text
    assert "you I want to paint Zoë eliza" in left
    assert "Zoë" not in right
    assert "not read any more" not in text
    assert figures_of(text)


# --- on a terminal ---


def on_a_terminal(*arguments: str, interrupt: bool = False, **extra: str) -> tuple[int, str]:
    pty = pytest.importorskip("pty", reason="this platform has no pseudo-terminals")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*DEMO, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(unmeasured(), TERM="xterm-256color", COLUMNS="80", LINES="24", **extra),
    ) as process:
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not data:
                break
            if b"you> " in data:
                os.write(ours, b"I want to paint\n" if b"turn 4" not in written else b"\x04")
            written += data
            if interrupt and b"turn 1" in written:
                process.send_signal(signal.SIGINT)
                interrupt = False
        os.close(ours)
        return process.wait(60), written.decode()


@pytest.mark.long
def test_a_terminal_is_redrawn_in_colour() -> None:
    status, text = on_a_terminal()
    assert status == 0
    assert "\x1b[32m" in text
    assert "\x1b[31m" in text
    counts = [int(count) for count in re.findall(r"(\d+) events, ", text)]
    assert set(range(1, 11)) <= set(counts)  # each event was seen as it came
    assert "Checked:" in text


def test_a_terminal_without_colour_has_none_and_can_chat() -> None:
    status, text = on_a_terminal("--chat", NO_COLOR="1")
    assert status == 0
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", text)
    assert "turn 4" in text
    assert "Checked:" in text


# --- when it has to fail ---


class Talkative(ElizaModel):
    """Shows in clear, as usage, what it says: v1 lets it."""

    async def stream(self, endpoint: Endpoint, body: bytes) -> AsyncIterator[list[Answer]]:
        async for batch in super().stream(endpoint, body):
            yield [Answer(answer.plaintext, {"said": answer.plaintext.decode()}) for answer in batch]


def test_a_word_on_the_wire_makes_it_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_show, "ElizaModel", Talkative)
    monkeypatch.setattr(_show, "OLD_PROMPT", "I want Topinambur")
    assert main(["demo"]) == 1
    text = capsys.readouterr().out
    assert re.search(r"these words crossed the wire readably:[^:]*\bTopinambur\b", text)
    assert "none of" not in text.lower()


def test_another_key_in_the_lock_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = _show._running_node
    other = ac.NodeKeyring()
    monkeypatch.setattr(_show, "_running_node", lambda _keys, model: serve(other, model))
    with pytest.raises(SystemExit, match="not the node's"):
        _show.show(chat=False)
    other.close()


def test_a_node_that_does_not_start_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda _server, sockets: sockets)
    with pytest.raises(SystemExit, match="did not start"):
        _show.show(chat=False)


FRAME = b'POST / HTTP/1.1\r\nhost: x\r\n\r\n19a\r\ndata: {"ciphertext":"%s","nonce":"A"}\n\n\r\nbad\r\n'
SAID = "My nonce is bad, Müllerin said."


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        (base64.b64encode(bytes(range(96))), set()),
        (b"My", {"My"}),
        (b"a said b", {"said"}),
        (b"xSAIDx", set()),
        ("Müllerin".encode(), {"Müllerin"}),
        ("xxMüllerinxx".encode(), {"Müllerin"}),
        (base64.b64encode("xx Müllerin sang".encode()), {"Müllerin"}),
        (base64.b64encode(b"My bad is too short for that"), set()),
        *((b"A" * skip + base64.b64encode("xx Müllerin sang".encode()), {"Müllerin"}) for skip in range(4)),
    ],
)
def test_the_search_finds_words_wherever_they_are(inside: bytes, found: set[str]) -> None:
    result = search(FRAME % inside, [SAID])
    assert result.found == found
    assert result.word_count == 5  # "nonce" is the protocol's own, and "bad" was a chunk's size


def test_a_word_that_the_protocol_s_own_hold_is_no_leak() -> None:
    recorded = b"POST /v1/confidential/chat/completions HTTP/1.1\r\n\r\n"
    assert search(recorded, ["confident completion"]) == Search(0, frozenset())
    assert search(recorded, ["I am"]).word_count == 2  # shorter ones are looked for as words only


@pytest.mark.long
def test_an_honest_word_is_no_leak_in_the_demo() -> None:
    assert "these words crossed" not in run("--chat", stdin="I am confident.\n")


# --- when it is cut short ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8:surrogateescape", "utf-8:strict", "ascii"])
@pytest.mark.long
def test_chat_takes_what_is_not_of_its_encoding(encoding: str) -> None:
    done = subprocess.run(
        [*DEMO, "--chat"],
        input=b"I want to paint Zo\xeb \xff\n",
        capture_output=True,
        env=environment(PYTHONIOENCODING=encoding),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    left, _ = columns(done.stdout.decode("utf-8").replace("|", "│"))
    assert "I want to paint Zo? ?" in left


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
@pytest.mark.long
def test_an_arrow_is_one_in_every_encoding(encoding: str) -> None:
    text = run(PYTHONIOENCODING=encoding)
    assert re.search(r"client <-+> router <-+> node|client .─+. router .─+. node", text)
    assert "?" not in text.splitlines()[1]
    assert re.search(r"[uµ]s per event: ", text)


def test_an_interrupt_ends_it_quietly() -> None:
    status, text = on_a_terminal(interrupt=True)
    assert status == 130
    assert "turn 1" in text
    assert "Checked" not in text
    assert "Traceback" not in text


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(PYTHONUNBUFFERED="1")
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


# --- the proxy and the router's eye ---


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """Serve one connection with a function."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join()


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_proxy_forwards_and_records_both_ways() -> None:
    asked, told = os.urandom(300_000), os.urandom(200_000)
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        heard.append(read_all(connection))
        connection.sendall(told)

    with (
        answering(answer) as target,
        RecordingProxy(target) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
    ):
        client.sendall(asked)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == told
    assert heard == [asked]
    (connection,) = proxy.connections
    assert bytes(connection.up) == asked
    assert bytes(connection.down) == told
    assert asked in proxy.recorded()
    assert told in proxy.recorded()


def test_the_proxy_closes_what_leads_nowhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = gone.getsockname()
    with RecordingProxy(target) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        assert read_all(client) == b""
    assert proxy.connections == []


def test_leaving_the_proxy_ends_what_is_still_open() -> None:
    with answering(lambda connection: connection.sendall(read_all(connection))) as target:
        client = socket.socket()  # left open: the proxy is left first
        with client, RecordingProxy(target) as proxy:
            client.connect(("127.0.0.1", proxy.port))
            client.sendall(b"half a request")
            while not proxy.connections or not proxy.connections[0].up:
                threading.Event().wait(0.01)
    assert bytes(proxy.connections[0].up) == b"half a request"


UP = b'POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 21\r\n\r\n{"stack_small_id":42}'
DOWN = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b'13\r\ndata: {"usage":1}\n\n\r\n20\r\ndata: {"usage":{"total":3}}\n\n: x\r\n0\r\n\r\n'
)


def seen(up: bytes, down: bytes) -> Sight:
    connection = Connection()
    connection.up += up
    connection.down += down
    return look(connection)


def test_the_router_reads_what_is_there_however_little() -> None:
    whole = [seen(UP, DOWN[:length]) for length in range(len(DOWN) + 1)]
    assert [len(sight.events) for sight in whole] == sorted(len(sight.events) for sight in whole)
    assert {sight.events for sight in whole} == {
        (),
        (b'{"usage":1}',),
        (b'{"usage":1}', b'{"usage":{"total":3}}'),
    }
    assert whole[-1].usage == {"total": 3}
    assert whole[-2].status == 200
    assert seen(UP, b"").request == {"stack_small_id": 42}
    for length in range(len(UP)):
        assert seen(UP[:length], b"").request == {}


def drawn(picture: RenderableType) -> str:
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(picture)
    return capture.get()


def test_no_text_steers_the_terminal() -> None:
    evil = "\x1b[2J\x07\u202e[red]bold"
    text = drawn(_view.turn("turn 1", evil, evil, Sight(request={"model_name": evil, "ciphertext": evil})))
    assert set(re.findall(r"[\x00-\x1f\x7f\u202e]", text)) == {"\n"}
    assert "[red]bold" in text


def test_a_wide_console_is_narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert _view.console().width == 100
    monkeypatch.setenv("COLUMNS", "60")
    assert _view.console().width == 60
