"""A model's performance on labelled sequences: scores, errors and what predictions rest on, as data and as a page."""

from bilstm.report.findings import examine
from bilstm.report.page import check_report_path, render, write_report

__all__ = ["check_report_path", "examine", "render", "write_report"]
