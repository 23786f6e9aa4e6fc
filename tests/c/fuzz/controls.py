"""Each target finds the faults that are planted for it, in a copy of the core, from the corpora of the tree.

    controls.py BIN TARGET...

A target that finds nothing within SECONDS makes the exit status 1.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from c.fuzz.run import CACHE, HERE, LONGEST, TOP, libfuzzer, number, say, seeds, tree

SECONDS = 90
CSRC = TOP / "csrc"

# Target, file, text, what stands there instead.
FAULTS = (
    ("base64", "ac_base64_x86.c", "|| spare != 0", "|| spare > 64"),  # one spare bit of the two of one '='
    (
        "base64",
        "ac_base64.c",
        "p[2] = (uint8_t)v;",
        "p[2] = (uint8_t)(v ^ (p - out > 12));",
    ),  # long texts, without AVX2
    (
        "json",
        "ac_json.c",
        "if (seen & m.bit) return AC_PUNT;",
        "if (seen & m.bit & 8) return AC_PUNT;",
    ),  # it comes twice
    ("events_v1", "ac_sse.c", "s->skip_lf = in[end] == '\\r';", "s->skip_lf = in[end] == '\\r' && end + 1 < len;"),
    ("events_v1", "ac_sse.c", "return len > s->max_line_bytes", "return len == SIZE_MAX"),
    ("events_v2", "ac_v2_reader.c", "if (o->ended) return AC_ERR_FORMAT; /* whatever", "/* whatever"),
    ("events_v2", "ac_sse.c", "if (end - p->event > s->max_event_bytes)", "if (end - p->line > s->max_event_bytes)"),
    ("replies", "ac_stream.c", "!aci_equal(computed, claimed, sizeof computed)", "!aci_equal(computed, claimed, 1)"),
    ("requests", "ac_v2_request.c", "p = put_number(p, m->sent_at, 1);", "p = put_number(p, m->sent_at >> 8, 1);"),
    ("requests", "ac_v2_request.c", "p = write_number(p, m->sent_at, 1);", "p = write_number(p, m->sent_at + 1, 1);"),
    ("requests", "ac_request.c", "if (has_num_compute_units) {", "if (!has_num_compute_units) {"),
    ("sealers", "ac_stream.c", "while (memcmp(nonce, sealer->request_nonce, AC_NONCE_BYTES) == 0)", "while (0)"),
    ("records", "ac_v2_record.c", "aad + 1 + 8 * i, usage[i]", "aad + 1 + 8 * i, usage[i & 2]"),  # one number is free
    ("hpke", "ac_hkdf.c", "if (i > 1) aci_sha256_update", "if (i > 2) aci_sha256_update"),
    (
        "hpke",
        "ac_sha256.c",
        "  for (; blocks != 0; blocks--,",
        "  for (blocks %= 8; blocks != 0; blocks--,",
    ),  # without SHA-NI
    ("gcm", "ac_gcm_portable.c", "(uint64_t)aad_len * 8", "(uint64_t)aad_len * 8 % 512"),  # it passes the self-test
)


def build(fault: int, binaries: Path) -> Path:
    """Objects are taken over, so that only what the fault stands in is compiled."""
    target, file, text, instead = FAULTS[fault]
    place = CACHE / "controls" / f"{target}-{fault}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(CSRC, place / "csrc")
    shutil.copytree(binaries, place / "bin")
    (place / "bin" / target).unlink()
    source = place / "csrc" / file
    code = source.read_text(encoding="utf-8")
    if code.count(text) != 1:
        sys.exit(f"{file}: the text of the fault stands there {code.count(text)} times")
    source.write_text(code.replace(text, instead), encoding="utf-8")
    make = ["make", "-s", "-C", str(HERE), f"PYTHON={sys.executable}", f"CSRC={place / 'csrc'}", f"OUT={place / 'bin'}"]
    subprocess.run([*make, str(place / "bin" / target)], check=True)
    return place


def find(fault: int, binaries: Path) -> bool:
    target, file, *_ = FAULTS[fault]
    place = build(fault, binaries)
    corpus = place / "corpus"
    corpus.mkdir()
    before = time.monotonic()
    status, text = libfuzzer(
        place / "bin" / target,
        f"-max_total_time={SECONDS}",
        f"-max_len={LONGEST.get(target, 200)}",
        "-print_final_stats=1",
        f"-artifact_prefix={place}/",
        str(corpus),
        str(tree(target)),
        str(seeds(target)),
    )
    seconds, executions = time.monotonic() - before, number(r"stat::number_of_executed_units:\s+(\d+)", text)
    found = re.search(r"^\w+\.c:\d+: .*", text, re.MULTILINE) or re.search(r"ERROR: \w+Sanitizer.*", text)
    which = f"{target:10} {file:18}"
    if status == 0 or found is None:
        say(f"{which} NOT FOUND in {seconds:.0f} s, {executions:,} executions")
        return False
    say(f"{which} found in {seconds:4.1f} s, {executions:>7,} executions: {found.group()[:90]}")
    return True


def main() -> int:
    faults = [i for i, (target, *_) in enumerate(FAULTS) if target in sys.argv[2:]]
    if {FAULTS[i][0] for i in faults} != set(sys.argv[2:]):
        sys.exit("a target without a fault")
    found = [find(fault, Path(sys.argv[1])) for fault in faults]  # all of them, whatever the first says
    return int(not all(found))


if __name__ == "__main__":
    sys.exit(main())
