"""bigin and its peers side by side: `python -m bench`. Every output is checked.

Neither figures nor ratios hold on another instruction set, so each run names its machine and its instruction set.
"""
