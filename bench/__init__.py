"""bigin and its peers side by side: `python -m bench`. Every output is checked, and only ratios in one run count."""
