"""What a trained tagger is worth on a labelled table, as plain data and as a page for everyone."""

from bilstm.report.findings import examine
from bilstm.report.page import check_report_path, render, write_report
from bilstm.report.reach import context_reach

__all__ = ["check_report_path", "context_reach", "examine", "render", "write_report"]
