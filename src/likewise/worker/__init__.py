"""Workers: they answer ``embed()`` of SQL, and keep the embeddings of watched tables fresh. A process of their own, or a thread."""

from likewise.worker.answering import Answering
from likewise.worker.exposing import Exposing
from likewise.worker.metrics import WorkerCounts
from likewise.worker.service import Worker, WorkerThread
from likewise.worker.watching import Watching

__all__ = ["Answering", "Exposing", "Watching", "Worker", "WorkerCounts", "WorkerThread"]
