import pytest

from kinescribe.errors import OptionError
from kinescribe.perf.budget import Memory, parse_memory


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("auto", "auto"), ("roomy", "roomy"), ("low", "low"), ("8GB", 8 * 10**9), ("8 gb", 8 * 10**9),
        ("7.5GiB", 15 * 2**29), ("6000m", 6 * 10**9), ("1T", 10**12), ("123", 123), (456, 456),
    ],
)  # fmt: skip
def test_a_budget_is_a_word_or_a_size(text: str | int, meant: Memory) -> None:
    assert parse_memory(text) == meant


@pytest.mark.parametrize("text", ["", "much", "-8GB", "0", "8 parsecs", "1e9"])
def test_another_budget_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="use auto, roomy, low, or a size such as 8GB"):
        parse_memory(text)
