"""The page that a person should land on: MLflow's saved ("shared") view of a study.

MLflow keeps such a view as one tag of the experiment: JSON, deflated, base64. The format is
internal to MLflow (tried with 3.17), so it is built here only, and where a server does not know
it, the plain query of `plain_query` still filters and sorts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from automl.study.state import State
from automl.tracking import mirror, words

_TAG = "mlflow.sharedViewState."
_AXES = 5  # more write over each other


def share_key(study: str) -> str:
    """Name of the study's view; the same for its whole life, so that its address is too."""
    return hashlib.sha256(f"automl view {study}".encode()).hexdigest()


def query(study: str) -> str:
    """What follows `<server>/#/experiments/<id>/runs` to open the saved view."""
    key = share_key(study)
    return f"?viewStateShareKey={key}&compareRunsMode=CHART&workflowType=machine_learning"


def plain_query(study: str, metric: str, *, maximize: bool) -> str:
    """The same without a saved view: the study's trials, best first."""
    return (
        f"?searchFilter={quote(_filter(study))}&orderByKey={quote(f'metrics.`{metric}`')}"
        f"&orderByAsc={'false' if maximize else 'true'}&workflowType=machine_learning"
    )


def _filter(study: str) -> str:
    return (
        f"tags.`automl.kind` = 'trial' and tags.`automl.study` = {words.quoted(study)} "
        "and tags.`automl.phase` = 'search'"
    )


def telling_params(state: State) -> list[str]:
    """Parameters worth an axis: those that most trials have and that differ, choices first."""
    trials = [words.params(t.recipe) for t in state.search_trials()]
    present = Counter(name for point in trials for name in point)
    varied = [
        name
        for name, count in present.items()
        if count >= 0.6 * len(trials) and len({p.get(name) for p in trials} - {None}) > 1
    ]
    first = ["optimizer", "schedule", "lr_log10", "batch_size", "batch", "architecture"]
    order = {name: place for place, name in enumerate(first)}
    useful = [n for n in varied if n not in ("lr", "seed", "steps") and not n.endswith(".lr")]
    return sorted(useful, key=lambda n: (order.get(n, len(first)), -present[n], n))


def saved_view(state: State) -> tuple[str, str]:
    """(tag, value) to set on the experiment."""
    assert state.config is not None
    metric, study = words.key(state.metric), state.config.name
    axes = telling_params(state)[:_AXES]
    columns = [
        *(f"metrics.`{name}`" for name in (metric, "time/train_seconds")),
        *(f"tags.`{name}`" for name in ("automl.state", "automl.rung")),
        *(f"params.`{'lr' if name == 'lr_log10' else name}`" for name in axes),
    ]
    page = {
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": state.config.card.direction != "maximize",
        "searchFilter": _filter(study),
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "SHOWALL",
        "runListHidden": False,
        "viewMaximized": False,
        "isAccordionReordered": False,
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "autoRefreshEnabled": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
            "xAxisKey": "step",
        },
        "compareRunSections": [
            {
                "uuid": "s1",
                "name": f"Study {study}",
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
                "columns": 2,  # three, MLflow's own choice, leave a chart 200 pixels
                "cardHeight": 380,
            }
        ],
        "compareRunCharts": _charts(metric, axes),
    }
    text = zlib.compress(json.dumps(page).encode())
    return _TAG + share_key(study), "deflate;" + base64.b64encode(text).decode()


def read_view(value: str) -> dict[str, Any]:
    """The inverse of what `saved_view` packs."""
    packed = base64.b64decode(value.removeprefix("deflate;"))
    page: dict[str, Any] = json.loads(zlib.decompress(packed))
    return page


def saved_views(store_uri: str, server: str) -> dict[str, str]:
    """Study: address of its page on `server`, for the studies that lie beside a SQLite store."""
    runs = Path(store_uri.removeprefix("sqlite:///")).parent
    folders = sorted(p.parent for p in runs.glob(f"*/{mirror.ADDRESS}"))
    return {folder.name: mirror.page_url(server, folder) for folder in folders}


def _charts(metric: str, axes: Sequence[str]) -> list[dict[str, Any]]:
    base = {"metricSectionId": "s1", "deleted": False, "isGenerated": False}
    parallel = {
        **base,
        "type": "PARALLEL",
        "uuid": "parallel",
        "runsCountToCompare": 100,
        "selectedParams": list(axes),
        "selectedMetrics": [metric],
        "showAllRuns": False,
    }
    curves = {
        **base,
        "type": "LINE",
        "uuid": "curves",
        "runsCountToCompare": 20,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "scaleType": "linear",
        "lineSmoothness": 0,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "selectedYAxisMetricKey": metric,
        "useGlobalLineSmoothing": True,
        "useGlobalXaxisKey": True,
        "ignoreOutliers": False,
        "range": {},
    }
    scatters = [
        {
            **base,
            "type": "SCATTER",
            "uuid": x,
            "runsCountToCompare": 300,
            "xaxis": {"key": x, "type": "METRIC"},
            "yaxis": {"key": metric, "type": "METRIC"},
        }
        for x in ("time/train_seconds", "lr_log10")
    ]
    return [*([parallel] if axes else []), curves, *scatters]
