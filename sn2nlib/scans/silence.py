"""Libraries that are kept quiet while they read: what they warn of quotes headers, and so patients."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced(log: str) -> Iterator[None]:
    """Neither a warning nor a record of the logger called `log` gets out; errors do."""
    logger = logging.getLogger(log)
    logger.addFilter(_nothing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeFilter(_nothing)


@contextmanager
def overheard(log: str) -> Iterator[list[str]]:
    """The warnings and errors that the logger called `log` records go into a list alone; Python's warnings go nowhere.

    For a library whose records name fields and numbers of a header, never its words: the caller passes them on.
    """
    logger = logging.getLogger(log)
    told: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            told.append(" ".join(record.getMessage().split()))
        return False

    logger.addFilter(keep)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield told
    finally:
        logger.removeFilter(keep)


def _nothing(_: logging.LogRecord) -> bool:
    return False
