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


def _nothing(_: logging.LogRecord) -> bool:
    return False
