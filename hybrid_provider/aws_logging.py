"""botocore's debug log without the secrets that it writes there."""

from __future__ import annotations

import logging
import re
from typing import Final

# The three that do: what is signed, what is sent, and what STS answered.
_LOGGERS: Final = ("botocore.auth", "botocore.endpoint", "botocore.parsers")
_SECRET: Final = re.compile(
    r"""(x-amz-security-token['"]?\s*[:=]\s*b?['"]? | <(?:secretaccesskey|sessiontoken)>
    | "(?:secretaccesskey|sessiontoken|accesstoken)"\s*:\s*")[^<'"\s,&]+""",
    re.IGNORECASE | re.VERBOSE,
)


class _Masking(logging.Filter):
    """Changes what is logged, and keeps nothing back."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        masked = _SECRET.sub(r"\1***", text)
        if masked != text:
            record.msg, record.args = masked, ()
        return True


_MASKING: Final = _Masking()


def mask_secrets() -> None:
    """Have session tokens and secret keys masked from here on, in this whole process.

    Airflow masks what its connections hold. What STS gives for an assumed role is in none of them, and a log
    at DEBUG would show it to everyone who may read the task's.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_MASKING)
