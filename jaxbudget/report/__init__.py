"""Reports: from a workdir of results to tables, statistics, figures and one page.

`load_workdir` reads, `summary` prints, `write_report` writes `report/` into the workdir.
"""

from jaxbudget.report.html import write_report
from jaxbudget.report.load import Problem, Workdir, load_workdir
from jaxbudget.report.summary import summary

__all__ = ['Problem', 'Workdir', 'load_workdir', 'summary', 'write_report']
