"""The two tables: the ratios that were asked for, and everything that was measured."""

from collections.abc import Iterable

from results import OURS, Figure, Results, least, limit, ns_of, share, spread_of, times

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SIZES = ["64 KiB", "256 KiB", "1 MiB"]
LARGE = ["65536 B in C", "1048576 B in C"]
MASKED = "cryptography, AVX-512 hidden"
LIMIT = "limit of 256 bits"
FIRST = "HPKE's first message, {}"
Row = tuple[str, str, str, str, Figure]


def both(sizes: list[str]) -> list[str]:
    return [f"{verb} {size}" for verb in ("seal", "open") for size in sizes]


def bulk(who: str, against: str, sizes: list[str]) -> Figure:
    return least(times(name, against, who) for name in both(sizes))


def of_limit(who: str, sizes: list[str]) -> Figure:
    return least(share(name, who) for name in both(sizes))


def asked(results: Results) -> list[Row]:
    """What, against what, at least, stretch, and how it is measured; only what this machine can show."""
    sdk = next(who for who in results.operations()["open 300"] if who.startswith("atoma-sdk"))
    openssl = MASKED if results.did("seal 1 MiB", MASKED) else "cryptography"
    best = next(name for name in ("vaes512", "vaes", "aesni", "sodium") if results.did("seal 1 MiB", name))
    batch, at_once = f"{OURS}, 32 to a call", f"{OURS}, 32 received at once"
    rows: list[Row] = [
        ("seal 300 bytes to an event", "reference", "5", "6.5", times("seal 300", "reference", OURS)),
        ("the same, 32 to a call", "reference", "10", "12", times("seal 300", "reference", batch)),
        ("open that event", "reference", "4", "5", times("open 300", "reference", OURS)),
        ("the same, 32 received at once", "reference", "", "", times("open 300", "reference", at_once)),
        ("open that event", f"{sdk}, `decrypt_message`", "40", "60", times("open 300", sdk, OURS)),
        ("set-up of a client", "reference", "1.35", "1.55", times("set-up of a client", "reference", OURS)),
        ("set-up of a node", "reference", "", "", times("set-up of a node", "reference", OURS)),
        (FIRST.format("X25519"), "`cryptography`", "", "", times(FIRST.format("X25519"), "cryptography", OURS)),
        (FIRST.format("X-Wing"), "`cryptography`", "", "", times(FIRST.format("X-Wing"), "cryptography", OURS)),
        (
            "two threads, 1 MiB chunks",
            "one thread",
            "1.8",
            "1.95",
            times("seal 1 MiB chunks", "one thread", "two threads"),
        ),
    ]
    v2, setup, first = f"{OURS}, v2", "set-up of a client", "HPKE's first message, X25519"
    everyone = results.operations()[setup]
    hpke = next(who for who in everyone if who.startswith("cryptography") and who.endswith("hpke"))
    ehbp = next(who for who in everyone if who.startswith("tinfoil-ehbp"))
    rows += [
        ("seal 300 bytes to a v2 event", "v1's event", "1.33", "1.5", times("seal 300", OURS, v2)),
        ("the same, 32 to a call", "one to a call", "3", "4", times("seal 300", v2, f"{v2}, 32 to a call")),
        (
            "HPKE's set-up, seal and export",
            "cryptography's set-up and seal",
            "1.3",
            "1.5",
            times(first, "cryptography", OURS),
        ),
        ("set-up of a v2 client: that, its checks and JSON", hpke, "1.3", "1.5", times(setup, hpke, v2)),
        ("the same", ehbp, "3", "4", times(setup, ehbp, v2)),
    ]
    if results.did("seal 1 MiB", "vaes"):
        rows += [
            ("bulk, `vaes`, 64 KiB to 1 MiB, the worst", openssl, "2.2", "2.7", bulk("vaes", openssl, SIZES)),
            ("the same, 16 MiB", openssl, "1.8", "2.3", bulk("vaes", openssl, ["16 MiB"])),
            ("`vaes` in C, 64 KiB and 1 MiB, the worst", LIMIT, "0.78", "0.90", of_limit("vaes", LARGE)),
            ("`vaes` from Python, 1 MiB, the worst", LIMIT, "0.78", "0.90", of_limit("vaes", ["1 MiB"])),
            ("`vaes` from Python, 64 KiB, the worst", LIMIT, "0.78", "0.90", of_limit("vaes", ["64 KiB"])),
            ("300 bytes in C, `vaes`, the worse", "libsodium", "2", "3", bulk("vaes", "libsodium", ["300 B in C"])),
        ]
    if best == "vaes512":
        rows += [
            ("bulk, `vaes512`, 64 KiB to 1 MiB, the worst", "cryptography", "", "", bulk(best, "cryptography", SIZES)),
            ("`vaes512` in C, 64 KiB and 1 MiB, the worst", LIMIT, "", "", of_limit(best, LARGE)),
            ("300 bytes in C, `vaes512`, the worse", "libsodium", "2", "3", bulk(best, "libsodium", ["300 B in C"])),
        ]
    if results.did("seal 1 MiB", "aesni"):
        rows.append(("bulk, `aesni`, 64 KiB to 1 MiB, the worst", openssl, "1", "1.15", bulk("aesni", openssl, SIZES)))
    return rows


def table(heads: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def asked_table(results: Results) -> list[str]:
    rows = []
    for what, against, at_least, stretch, figure in asked(results):
        median, low, high = results.over(figure)
        verdict = ""
        if at_least:
            verdict = "stretch" if median >= float(stretch) else "yes" if median >= float(at_least) else "**no**"
        rows.append([what, against, at_least, stretch, f"{median:.2f}", f"{low:.2f} to {high:.2f}", verdict])
    size = results.machine["bytes"]
    for what, used in (
        ("native memory of a node's session", size["ac_v1_sealer"]),
        ("of a client's, before its first chunk", size["ac_v1_opener"]),
        ("of a client's, from then on", size["ac_v1_opener"] + size["ac_v1_events"]),
        ("of a node's v2 session", size["ac_v2_sealer"]),
        ("of a client's v2 session, before its first chunk", size["ac_v2_opener"]),
    ):
        verdict = "stretch" if used <= 1024 else "yes" if used <= 2048 else "**no**"
        rows.append([what, "", "2,048 B", "1,024 B", f"{used:,} B", "", verdict])
    return table(["what", "against", "at least", "stretch", "median", "range", "reached"], rows)


def amount(ns: float) -> str:
    return f"{ns:,.0f} ns" if ns < 100_000 else f"{ns / 1000:,.0f} µs"


def all_table(results: Results) -> list[str]:
    rows = []
    limited = "limit256" in results.rounds[0].limits
    for operation, everyone in results.operations().items():
        ours = next((who for who in (OURS, "vaes512", "vaes", "aesni") if who in everyone), "")
        for who in everyone:
            if not results.did(operation, who):
                continue
            ns = results.over(ns_of(operation, who))[0]
            spread = results.over(spread_of(operation, who))[0]
            size = results.rounds[0].measured[operation][who].size
            rows.append(
                [
                    operation,
                    who,
                    amount(ns),
                    f"{spread:.0%}" if spread else "",
                    f"{results.over(times(operation, who, ours))[0]:.2f}" if ours not in ("", who) else "",
                    f"{size / ns:.2f}" if size else "",
                    f"{results.over(share(operation, who))[0]:.2f}" if size and limited else "",
                ]
            )
    return table(["operation", "who", "median", "spread", "time / ours", "GB/s", "of the limit"], rows)


def everything(results: Results) -> str:
    machine = results.machine
    limits = ", ".join(
        f"{results.over(limit(name))[0]:.2f} GB/s with {name.removeprefix('limit')} bits"
        for name in results.rounds[0].limits
    )
    lines = [
        f"CPU: {machine['CPU']}.  ",
        f"Limit of its units for AES-256-GCM: {limits or 'not known'}.  ",
        f"Versions: {machine['versions']}.  ",
        f"{machine['date']}, medians of {len(results.rounds)} rounds of `make bench`.",
        "",
        *asked_table(results),
        "",
        "Everything:",
        "",
        *all_table(results),
    ]
    return "\n".join(lines) + "\n"


def replaced(page: str, text: str) -> str:
    """The page with new tables between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"
