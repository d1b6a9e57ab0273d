"""/v1/models."""

from fastapi import APIRouter

from api import errors, faults, schemas
from api.deps import CallerDep, ServicesDep
from api.keyring import Caller
from api.services import Services
from worker.allowed_models import AllowedModels
from worker.routes import RouteError
from worker.store import api_keys

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(services: ServicesDep, caller: CallerDep) -> schemas.ModelList:
    """Aliases and configured models that the caller may use.

    Any other model of a known provider works as well, as ``provider/model``.
    """
    allowed = _allowed(services, caller)
    return schemas.ModelList(
        data=[_model(services, name) for name in services.routes.names() if _permits(services, allowed, name)]
    )


@router.get("/{model:path}", responses=schemas.error_responses(404))
def retrieve(model: str, services: ServicesDep, caller: CallerDep) -> schemas.Model:
    try:
        _allowed(services, caller).check(model, services.routes.resolve(model))
    except RouteError as error:
        raise errors.NotFound(faults.shown(str(error)), param="model", code=error.code) from None
    return _model(services, model)


def _allowed(services: Services, caller: Caller) -> AllowedModels:
    with services.database.read() as session:
        return api_keys.allowed(session, caller.api_key)


def _permits(services: Services, allowed: AllowedModels, name: str) -> bool:
    """Also names that lead nowhere now are shown."""
    try:
        return allowed.permits(name, services.routes.resolve(name))
    except RouteError:
        return True


def _model(services: Services, name: str) -> schemas.Model:
    return schemas.Model(id=name, owned_by=_owner(services, name))


def _owner(services: Services, name: str) -> str:
    try:
        deployments = services.routes.resolve(name).deployments
    except RouteError:
        return "unavailable"
    return ", ".join(dict.fromkeys(deployment.provider for deployment in deployments))
