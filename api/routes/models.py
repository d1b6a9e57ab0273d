"""/v1/models."""

from fastapi import APIRouter

from api import errors, faults, schemas
from api.deps import CallerDep, ServicesDep
from api.services import Services
from worker.routes import RouteError

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_models(services: ServicesDep, caller: CallerDep) -> schemas.ModelList:
    """Aliases and configured models. Any other model of a known provider works as well, as ``provider/model``."""
    return schemas.ModelList(data=[_model(services, name) for name in services.routes.names()])


@router.get("/{model:path}", responses=schemas.error_responses(404))
def retrieve(model: str, services: ServicesDep, caller: CallerDep) -> schemas.Model:
    try:
        services.routes.resolve(model)
    except RouteError as error:
        raise errors.NotFound(faults.shown(str(error)), param="model", code=error.code) from None
    return _model(services, model)


def _model(services: Services, name: str) -> schemas.Model:
    return schemas.Model(id=name, owned_by=_owner(services, name))


def _owner(services: Services, name: str) -> str:
    try:
        deployments = services.routes.resolve(name).deployments
    except RouteError:
        return "unavailable"
    return ", ".join(dict.fromkeys(deployment.provider for deployment in deployments))
