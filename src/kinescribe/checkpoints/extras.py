"""Optional packages that are installed, but older than this package can use."""

import re
from importlib.metadata import PackageNotFoundError, requires, version

from kinescribe.errors import MissingExtraError

PACKAGE = "kinescribe"
_ASKED = re.compile(r"(?P<name>[\w.-]+)\s*>=\s*(?P<oldest>[\d.]+).*extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


def require_recent(extra: str, package: str) -> None:
    """Raise ``MissingExtraError`` with the pip line if ``package`` is older than the extra asks for.

    A package that is absent passes: its import says so.
    """
    fault = too_old(extra, package)
    if fault:
        raise MissingExtraError(f"{fault}: pip install --upgrade '{PACKAGE}[{extra}]'")


def too_old(extra: str, package: str) -> str:
    """What is installed and what is needed, in words; empty for a package that is new enough or absent."""
    try:
        have, asked = version(package), requires(PACKAGE) or []
    except PackageNotFoundError:
        return ""
    for found in filter(None, map(_ASKED.match, asked)):
        meant = found["extra"] == extra and _plain(found["name"]) == _plain(package)
        if meant and _numbers(have) < _numbers(found["oldest"]):
            return f"{package} {have} is installed and {found['oldest']} or newer needed"
    return ""


def _plain(name: str) -> str:
    """Names of packages are one whatever their case and dashes."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(text: str) -> tuple[int, ...]:
    """The release without its trailing zeros, of which "1.0rc1+cpu" has none."""
    release = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in re.sub(r"(\.0)*$", "", release[0] if release else "0").split("."))
