"""Shipped search spaces: data, no code. Installed as `automl.search_spaces`."""

if __name__ != "automl.search_spaces":
    raise ImportError(f"this folder is the package automl.search_spaces, not '{__name__}'")
