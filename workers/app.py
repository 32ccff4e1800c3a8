"""The Celery app: `celery -A automl.workers.app worker -Q cpu -c 1` is an ordinary worker.

The broker's address comes from AUTOML_BROKER, or the file that AUTOML_BROKER_FILE names. SIGTERM
lets the segment that trains write its checkpoint and hands it over, then the worker ends.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from celery import Celery
from celery.signals import (
    celeryd_init,
    worker_process_init,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from automl.executors.broker import broker_url
from automl.executors.celery import SETTINGS
from automl.parents import end_with

from . import devices, registry, watching
from .supervisor import Supervisor

app = Celery("automl", broker=broker_url(None) or "redis://127.0.0.1:6379/0")
app.conf.update(SETTINGS)
app.conf.update(imports=["automl.workers.tasks"], worker_concurrency=1, task_default_queue="cpu")

leaving = registry.Flag()  # shared by the main process and the one that trains
pulse = watching.Pulse()  # likewise
supervisor: Supervisor | None = None
alive = False  # whether this main process already says that it lives


def _named(sender: str, **_: Any) -> None:
    registry.here.name = sender
    if launcher := os.environ.pop("AUTOML_LAUNCHED", ""):  # what we start has another parent
        end_with(int(launcher), signal.SIGTERM)  # hand over, as on any SIGTERM


def _process(**_: Any) -> None:
    global supervisor
    supervisor = Supervisor(
        app.conf.broker_url, registry.here.name, leaving, environment=devices.environment()
    )


def _ready(sender: Any, **_: Any) -> None:
    global alive
    if alive:  # Celery says that it is ready after every reconnection, too
        return
    alive = True
    url, queues = app.conf.broker_url, [q.name for q in sender.task_consumer.queues]

    def listen(route: str) -> None:
        app.control.add_consumer(route, destination=[registry.here.name])
        queues.append(route)

    device = devices.advertised()
    registry.live(url, listen=listen, queue=",".join(queues), pid=os.getpid(), **device)
    watching.watch(url, queues, pulse, leaving)


def _leaving(**_: Any) -> None:
    leaving.set()


def _gone(**_: Any) -> None:
    registry.leave(app.conf.broker_url)


for event, receiver in (
    (celeryd_init, _named),
    (worker_process_init, _process),
    (worker_ready, _ready),
    (worker_shutting_down, _leaving),
    (worker_shutdown, _gone),
):
    event.connect(receiver)
