"""python -m bigin"""

from bigin.cli import run

run()
