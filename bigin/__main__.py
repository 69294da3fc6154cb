"""python -m bigin"""

from bigin.cli import main

main()
