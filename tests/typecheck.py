from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype that accepts an int where a float is asked for, as Python's type checkers do"""
