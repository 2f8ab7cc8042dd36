"""The process that answers what SQL asks of a model."""
