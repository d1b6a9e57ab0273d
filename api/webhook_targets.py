"""URLs that clients want to be called at."""

from api import errors
from api.services import Services
from worker.webhooks import target


def check(services: Services, url: str | None, param: str) -> None:
    """Raises BadRequest if no webhook may go there."""
    if url is None:
        return
    try:
        target.check(url, private=services.webhook_private)
    except target.TargetError as error:
        raise errors.BadRequest(f"Invalid value for '{param}': {error}.", param=param, code="invalid_url") from None
