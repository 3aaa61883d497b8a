"""What a command of ``python -m fastrnn`` ends with where its caller can help."""

from __future__ import annotations


class UserError(Exception):
    """What the caller can put right; the message is for them, `code` is the exit status."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code
