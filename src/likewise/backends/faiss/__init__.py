"""A collection's replica in this process: vectors in FAISS's indexes, metadata and contents beside them. PostgreSQL is the only truth.

``image`` is what is in memory, with ``table`` (rows), ``index`` (vectors), ``columns`` (filters) and ``file`` (the image on disk).
FAISS is imported here and nowhere else.
"""
