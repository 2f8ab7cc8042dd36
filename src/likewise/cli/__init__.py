"""The ``likewise`` command: one file per command in ``commands``, what they share beside it. Nothing imports this package."""
