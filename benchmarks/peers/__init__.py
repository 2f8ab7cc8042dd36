"""The systems that ``compare.py`` measures, one module each, and what they share.

A system's module runs in a virtual environment of its own, which has that system's library, NumPy and nothing of this project unless
its requirements name it: ``python -m peers.<system>``, in the folder above. It reads one JSON command a line and answers with one JSON
object a line. Modules whose names begin with an underscore belong to the side that asks, but for ``_serve``, which every system imports.
"""
