"""docs/length-hiding.md says what its example prints."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "length-hiding.md"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("length_hiding", ROOT / "examples" / "length_hiding.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_s_own_code_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, PAGE.name, "exec"), names)  # noqa: S102 - that is the test
    assert names["app"].build_middleware_stack()


def rows(text: str) -> dict[str, list[str]]:
    """The table whose columns are the example's, by the names of its rows."""
    table = text[text.index("| | events |") :].partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table]
    return {name: values for name, *values in cells[2:]} | {"": cells[0]}


def test_the_page_shows_the_example_s_table_and_the_table_what_hiding_does(
    example: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "WORD_SECONDS", 0.005)
    example.main()
    printed, shown = rows(capsys.readouterr().out), rows(PAGE.read_text(encoding="utf-8"))
    assert "python examples/length_hiding.py" in PAGE.read_text(encoding="utf-8")
    assert list(printed) == list(shown) == [*example.WAYS, ""]
    assert printed[""] == shown[""]
    for table in (printed, shown):
        plain, padded, joined, both = (
            {name: float(re.sub(r"[^\d.]", "", value)) for name, value in zip(table[""], table[way], strict=True)}
            for way in example.WAYS
        )
        assert padded["events"] == plain["events"] > 2 * joined["events"]
        assert both["events"] <= joined["events"] + 1
        assert padded["different lengths"] < plain["different lengths"]
        assert both["bits in the lengths"] < padded["bits in the lengths"] < plain["bits in the lengths"] / 2
        assert joined["bytes"] < plain["bytes"] < padded["bytes"]
