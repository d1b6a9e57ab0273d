"""The Celery app. Its messages are doorbells: ids and an epoch, acknowledged early, safe to lose and to repeat."""

from celery import Celery
from kombu.entity import Queue

from worker.settings import Settings

CONTROL_QUEUE = "control"
HELD_QUEUE = "held"
INTAKE_TASK = "gristmill.intake"
SLICE_TASK = "gristmill.slice"
HELD_TASK = "gristmill.held"


def provider_queue(provider: str) -> str:
    return f"provider.{provider}"


def make_app(settings: Settings) -> Celery:
    """The one app of a process; tasks are bound to it by the process that runs them."""
    broker_url = settings.broker or ""
    app = Celery("gristmill", broker=broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=broker_url.startswith(("redis", "unix")),
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": not broker_url.startswith(("redis+socket", "unix")),
            "health_check_interval": 25,
            "retry_on_timeout": True,
        },
        enable_utc=True,
    )
    return app


def queue(name: str) -> Queue:
    """A queue behind the nameless exchange: no binding is needed, which a flushed broker would have forgotten."""
    return Queue(  # type: ignore[no-untyped-call]
        name, exchange="", routing_key=name, durable=True
    )
