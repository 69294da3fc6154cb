"""What stores answer when they refuse, as errors that say whether another attempt may succeed."""

from __future__ import annotations

import errno
import re

from bigin.core.errors import StoreError

STATUS = re.compile(r"status code: (\d{3})")
CODE = re.compile(r"<Code>\s*([^<]+?)\s*</Code>")
MESSAGE = re.compile(r"<Message>\s*([^<]+?)\s*</Message>", re.DOTALL)
THROTTLING = ("slowdown", "slow down", "serverbusy", "toomanyrequests", "throttl", "requestlimitexceeded")
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
NO_UPLOAD = "NoSuchUpload"
UNSIGNED = ("missing credentials", "no credentials", "169.254.", "token request", "unauthenticated", "imds")


class GoneError(Exception):
    """An upload that the store no longer has."""


def answered(status: int, code: str, text: str) -> Exception:
    """The error of an answer: a status of HTTP, the store's own code for what is wrong, and its text."""
    said = f"{code}: {text}" if code and text and code not in text else text or code or f"status {status}"
    if code == NO_UPLOAD:
        return GoneError(said)
    if status in (429, 503) or any(word in said.lower() for word in THROTTLING):
        return StoreError(said, passes=True, throttled=True)
    if code in NO_BUCKET:
        return StoreError(said, passes=False)
    if status in (401, 403):
        return PermissionError(errno.EACCES, said)
    if status == 404:
        return FileNotFoundError(errno.ENOENT, said)
    return StoreError(said, passes=status in (408, 409) or status >= 500)


def translated(error: Exception) -> Exception:
    """The error of a call of obstore."""
    text = str(error).partition("\n\nDebug source")[0]
    status, code, message = STATUS.search(text), CODE.search(text), MESSAGE.search(text)
    if any(word in text.lower() for word in UNSIGNED) and (status is None or "169.254." in text):
        return PermissionError(errno.EACCES, "no credentials were found in the environment")
    if status is not None:
        said = " ".join((message[1] if message else text.partition("Server returned")[2]).split()).rstrip(": ")
        number = int(status[1])
        if number == 404 and isinstance(error, FileNotFoundError) and (code is None or code[1] not in NO_BUCKET):
            return error
        return answered(number, code[1] if code else "", said)
    if isinstance(error, FileNotFoundError | PermissionError):
        return error
    kind = type(error).__name__
    if kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return PermissionError(errno.EACCES, " ".join(text.split())[:200])
    if kind in ("InvalidPathError", "NotSupportedError", "UnknownConfigurationKeyError") or isinstance(
        error, ValueError | TypeError
    ):
        return error
    return StoreError(" ".join(text.split())[:300], passes=True)
