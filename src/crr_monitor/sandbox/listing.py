"""ListObjectVersions with ``encoding-type=url``, which the emulator leaves out there and boto3 always asks for.

S3 API Reference, "ListObjectVersions": without it, a key with a control character makes the answer unreadable.
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import unescape

from crr_monitor.sandbox import points

if TYPE_CHECKING:
    from collections.abc import Callable

_s3 = points.module("services.s3")

_ENCODED = re.compile(r"<(Key|Prefix|Delimiter|KeyMarker|NextKeyMarker)>(.*?)</\1>", re.DOTALL)
_ROOT = re.compile(r"<ListVersionsResult[^>]*>")


def _encode(match: re.Match[str]) -> str:
    return f"<{match[1]}>{_s3._url_encode(unescape(match[2]))}</{match[1]}>"


def encoding(old: Callable[..., Any]) -> Callable[..., Any]:
    """The listing, with its keys encoded where the request asks for it."""

    def list_versions(bucket_name: str, query_params: dict[str, list[str]]) -> Any:  # noqa: ANN401 - an HTTP answer
        status, headers, body = old(bucket_name, query_params)
        if status != 200 or query_params.get("encoding-type") != ["url"]:  # noqa: PLR2004 - HTTP
            return status, headers, body
        text = _ENCODED.sub(_encode, body.decode())
        text = _ROOT.sub(lambda match: match[0] + "<EncodingType>url</EncodingType>", text, count=1)
        return status, headers, text.encode()

    return list_versions
