"""Ids that clients see: a prefix and 24 random characters, safe in file names, URLs and logs."""

import re
import secrets
import string

ALPHABET = string.ascii_lowercase + string.digits
LENGTH = 24
_BITS = 192
"""So many more than the characters hold that each is as likely as any other."""

_FILE = re.compile(f"file-[a-z0-9]{{{LENGTH}}}")
_BATCH = re.compile(f"(?:msg)?batch_[a-z0-9]{{{LENGTH}}}")
_ENDPOINT = re.compile(f"we_[a-z0-9]{{{LENGTH}}}")
_JOB = re.compile(f"job_[a-z0-9]{{{LENGTH}}}")
_DELIVERY = re.compile(f"wh_[a-z0-9]{{{LENGTH}}}")


def new_file() -> str:
    return "file-" + _random()


def new_batch() -> str:
    return "batch_" + _random()


def new_job() -> str:
    return "job_" + _random()


def new_message_batch() -> str:
    return "msgbatch_" + _random()


def new_event() -> str:
    return "evt_" + _random()


def new_webhook_endpoint() -> str:
    return "we_" + _random()


def new_delivery() -> str:
    return "wh_" + _random()


def new_api_key() -> str:
    return "key_" + _random()


def is_file(text: str) -> bool:
    """Whether ``text`` could be the id of an uploaded file. Everything else must not reach SQL or a path."""
    return _FILE.fullmatch(text) is not None


def is_batch(text: str) -> bool:
    return _BATCH.fullmatch(text) is not None


def is_job(text: str) -> bool:
    return _JOB.fullmatch(text) is not None


def is_webhook_endpoint(text: str) -> bool:
    return _ENDPOINT.fullmatch(text) is not None


def is_delivery(text: str) -> bool:
    return _DELIVERY.fullmatch(text) is not None


def _random() -> str:
    """Drawn at once: a character at a time costs several times more."""
    number, found = secrets.randbits(_BITS), []
    for _ in range(LENGTH):
        number, place = divmod(number, len(ALPHABET))
        found.append(ALPHABET[place])
    return "".join(found)
