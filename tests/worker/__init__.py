"""The worker: what SQL asks of a model, and tables that are kept embedded."""
