"""One call of a provider, from request to result."""

import httpx

from providers import client, content, deployment, errors, redact, request, result, wire


async def call(
    client: client.Client, deployment: deployment.Deployment, request: request.ProviderRequest
) -> result.ProviderResult:
    """Raises ProviderError, or CancelledError when cancelled; any other exception is a bug."""
    dialect = wire.get(deployment.spec.wire)
    url = deployment.urls.get(dialect.path(request.endpoint))
    if url is None:
        raise errors.InvalidRequestError(f"{deployment.provider} has no {request.endpoint}", code="unknown_endpoint")
    body = dialect.body(request, deployment)
    try:
        got = await client.post(url, deployment.request_headers, body, deployment.timeout)
    except TimeoutError:
        raise _late(deployment) from None
    except content.TooLargeError:
        raise errors.ResponseTooLargeError("the answer is larger than the client's cap", may_be_billed=True) from None
    except content.UnreadableError as error:
        raise errors.BadResponseError(str(error), may_be_billed=True) from None
    except httpx.HTTPError as error:
        raise _failed(error, deployment) from None
    return dialect.read(got, request, deployment)


def _late(to: deployment.Deployment) -> errors.DeadlineError:
    return errors.DeadlineError(f"no complete answer within {to.timeout:g} seconds", may_be_billed=True)


def _failed(error: httpx.HTTPError, to: deployment.Deployment) -> errors.ProviderError:
    said = redact.text(str(error), to.hidden)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError | httpx.UnsupportedProtocol):
        return errors.ConnectError(f"could not reach the provider: {said}")
    if isinstance(error, httpx.TimeoutException):
        return errors.DeadlineError("the provider stopped answering", may_be_billed=True)
    return errors.ConnectionDropped(f"the connection broke after the request was sent: {said}", may_be_billed=True)
