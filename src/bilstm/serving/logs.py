"""Logs as lines of JSON, without what users send: no bodies, no queries, no addresses."""

from __future__ import annotations

import datetime
import json
import logging
import os
import traceback
from typing import Any

LOGGER = "bilstm.serving"


class JsonLines(logging.Formatter):
    """One JSON object per line: "time", "level", "process", "event", and what else the event has."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": os.getpid(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:  # its message may quote what a user sent
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["where"] = [f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames[-5:]]
        return json.dumps(line, ensure_ascii=False)


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write a line."""
    logging.getLogger(LOGGER).log(level, event, extra={"fields": fields})


def configuration(*, quiet: bool) -> dict[str, Any]:
    """For `logging.config.dictConfig`: lines on standard error."""
    level = "WARNING" if quiet else "INFO"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{__name__}.JsonLines"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            LOGGER: {"handlers": ["stderr"], "level": level, "propagate": False},
            "uvicorn.error": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        },
    }
