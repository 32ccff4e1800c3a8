"""Removes a study's runs from MLflow; the experiment, and other studies in it, stay."""

from __future__ import annotations

from mlflow import MlflowClient

from automl.tracking import words


def forget(store_uri: str, study: str) -> int:
    """Mark every run of `study` as deleted; `mlflow gc` then frees the space.

    Returns:
        How many there were.
    """
    client = MlflowClient(store_uri, registry_uri=store_uri)
    gone = 0
    for experiment in client.search_experiments():
        only = f"tags.`automl.study` = {words.quoted(study)}"
        while found := client.search_runs([experiment.experiment_id], only, max_results=1000):
            for run in found:
                client.delete_run(run.info.run_id)
            gone += len(found)
    return gone
