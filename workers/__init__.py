"""The Celery workers, installed as `automl.workers`."""

if __name__ != "automl.workers":
    raise ImportError(f"this folder is the package automl.workers, not '{__name__}'")
