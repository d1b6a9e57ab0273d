"""What is wrong with a request, in words for its sender: pydantic's findings as OpenAI would put them."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api import schemas

SHOWN = 200
"""Characters of a name that a client made up that are worth repeating."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    message: str
    param: str | None
    code: str


def first(findings: Sequence[Any]) -> Fault:
    """The first finding: SDKs show one error."""
    finding = findings[0]
    kind, where = str(finding["type"]), tuple(finding["loc"])
    param = _dotted(where)
    match kind:
        case "json_invalid":
            return Fault(message="The body of your request is not valid JSON.", param=None, code="invalid_json")
        case "missing" if param is None:
            return Fault(message="The body of your request must be a JSON object.", param=None, code="invalid_type")
        case "missing":
            return Fault(
                message=f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
            )
        case "extra_forbidden":
            return Fault(message=f"Unknown parameter: '{param}'.{_hint(where)}", param=param, code="unknown_parameter")
    message = str(finding["msg"]).removeprefix("Value error, ")
    code = "invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value"
    return Fault(message=f"Invalid value for '{param or 'body'}': {shown(message)}", param=param, code=code)


def shown(text: str) -> str:
    """A client's own words, cut and cleaned for an error message."""
    return text[:SHOWN].encode("utf-8", "replace").decode()


def _dotted(where: tuple[Any, ...]) -> str | None:
    return shown(".".join(str(part) for part in where[1:] if part != "[key]")) or None


def _hint(where: tuple[Any, ...]) -> str:
    near = difflib.get_close_matches(str(where[-1])[:SHOWN], schemas.REQUEST_FIELDS, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
