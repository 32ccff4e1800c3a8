"""MLflow, seen from the journal: a process of its own that copies the study."""
