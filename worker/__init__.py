"""The room of everything durable: settings, tables, the store, the Celery app and the engine."""

TITLE = "gristmill-worker"
"""Stands in the command line of every worker process."""
