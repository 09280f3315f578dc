"""An extra that is there but too old is one line with the pip command, not a failure deep inside."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError

import pytest

from kinescribe.checkpoints import extras
from kinescribe.checkpoints.extras import require_recent, too_old
from kinescribe.checkpoints.hub import pull
from kinescribe.errors import MissingExtraError

Install = Callable[..., None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Install:
    """``installed(matplotlib="3.8")``: what the packages' metadata say from now on."""

    def install(**versions: str) -> None:
        def version(name: str) -> str:
            try:
                return versions[name.replace("-", "_")]
            except KeyError:
                raise PackageNotFoundError(name) from None

        monkeypatch.setattr(extras, "version", version)

    return install


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_pulling_with_a_client_that_is_too_old_names_both_versions_and_the_pip_line(
    installed: Install, source: str
) -> None:
    installed(huggingface_hub="0.36.2", modelscope_hub="0.4.9")
    with pytest.raises(MissingExtraError, match=r"is installed and [\d.]+ or newer needed") as caught:
        pull("modelscope-1.7b", source)
    assert str(caught.value).endswith(": pip install --upgrade 'kinescribe[hub]'")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("have", "old"),
    [
        ("0.36.2", True),
        ("1", False),
        ("1.0", False),
        ("1.0.0rc1", False),
        ("2.4.0+local", False),
        ("10.0", False),
    ],
)
def test_versions_are_compared_as_numbers(installed: Install, have: str, old: bool) -> None:
    installed(huggingface_hub=have)
    assert bool(too_old("hub", "huggingface_hub")) is old


def test_an_absent_package_passes_here_and_so_does_one_that_no_extra_asks_for(installed: Install) -> None:
    installed(numpy="0.1")
    require_recent("hub", "huggingface_hub")
    require_recent("hub", "numpy")
