"""Where an endpoint is and the key to it: checked before the first request, and shown to nobody."""

import ipaddress
import os
from urllib.parse import SplitResult, urlsplit

import httpx2

from episodes.errors import InputError


def parts_of(url: str) -> SplitResult:
    """A URL taken apart, without the path of chat completions, which many copy along.

    Raises:
        InputError: it is none, or holds more than scheme, host, port and path.
    """
    # The url is not shown: what stands where it should not is a secret more often than not.
    unusable = InputError("the url of the endpoint cannot be used; expected something like http://127.0.0.1:8000/v1")
    try:
        parts, has_host = urlsplit(url), bool(httpx2.URL(url).host)
    except (ValueError, httpx2.InvalidURL):
        raise unusable from None
    if parts.scheme not in ("http", "https") or not has_host:
        raise unusable
    if parts.username is not None or parts.query or parts.fragment:
        raise InputError(
            f"the url at {parts.hostname} may hold no user, query or fragment; a key comes from an environment variable"
        )
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/chat/completions"))


def key_for(parts: SplitResult, variable: str | None) -> str:
    """What stands in the environment variable; nothing where no key is needed.

    Raises:
        InputError: a key is needed and missing, is none, or would be sent without encryption.
    """
    host = parts.hostname or ""
    if variable and not variable.isidentifier():
        # Not shown: it may well be the key itself.
        raise InputError("key_variable is the name of an environment variable, such as OPENAI_API_KEY; this is none")
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key and not is_local(host):
        raise InputError(
            f"{host}: needs a key; put it into the environment variable {variable} "
            "(or give --set chat.key_variable=null if the endpoint needs none)"
        )
    if not all("!" <= character <= "~" for character in key):
        raise InputError(f"environment variable {variable}: holds characters that no key has")
    if key and parts.scheme == "http" and not _is_near(host):
        raise InputError(f"{host}: the key in {variable} would be sent where anybody can read it; use https")
    return key


def is_local(host: str) -> bool:
    """Whether a host is this machine."""
    address = _address(host)
    return host == "localhost" or (address is not None and (address.is_loopback or address.is_unspecified))


def _is_near(host: str) -> bool:
    """Whether a host is this machine or in the same network, where certificates are rare."""
    address = _address(host)
    return address.is_private if address else "." not in host or host.endswith(".local")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
