"""The command line, installed as `automl.cli`."""

if __name__ != "automl.cli":
    raise ImportError(f"this folder is the package automl.cli, not '{__name__}'")
