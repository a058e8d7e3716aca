"""The published benchmarks' tasks, read from the user's own copy: VTAB-1k (19 tasks) and FGVC (5).

`vtab1k:cifar100` names a task; the folder that holds the copy is given beside it. What a task must be is a row of
a table (`vtab1k.py`, `fgvc.py`), and every reader takes the row as an argument. A reader never repairs: a copy
that is not what its row says is refused, with what to fetch.
"""
