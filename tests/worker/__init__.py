"""Tests of the process that answers what SQL asks of a model."""
