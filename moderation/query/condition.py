"""A condition on decisions, in SQL, that chooses images of a backtest or a queue. DuckDB evaluates it, and nothing else."""

import re
from difflib import get_close_matches

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from moderation.common.safe_text import visible
from moderation.errors import SettingsError
from moderation.query.locking import lock
from moderation.results import schemas

_NUMBER = "_number"
_LONGEST_ERROR = 300
_MISSING = re.compile(r'Referenced column "(.*?)" not found', re.DOTALL)


class Condition:
    """A condition such as `uri LIKE 's3://shop/listings/%' AND width > 500`. Use it as a context manager.

    Raises:
        SettingsError: DuckDB does not understand it, or it names a column that decisions do not have.
    """

    def __init__(self, sql: str, name: str = "--where") -> None:
        """`name`: what messages call it."""
        self.sql = sql
        self._name = name
        text = sql.lower()
        everything = "*" in text or "columns" in text
        self.columns = tuple(f.name for f in schemas.DECISIONS if everything or f.name in text)
        """columns of `decisions` that it may look at"""
        self._connection = duckdb.connect()
        try:
            # Shards are looked at side by side already; variables of this program are none of SQL's business.
            lock(self._connection, "where", threads=1, python_enable_replacements=False)
            self._expression = duckdb.SQLExpression(sql)
            self.holds(schemas.DECISIONS.empty_table())
        except duckdb.Error as error:
            self.close()
            raise SettingsError(self._message(str(error))) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Condition":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()

    def holds(self, decisions: pa.Table) -> NDArray[np.bool_]:
        """Bool [N]: for which of N decision rows it is true. Threads may ask at the same time.

        Raises:
            SettingsError: a value cannot be computed, such as a text that is no number.
        """
        chosen = np.zeros(len(decisions), np.bool_)
        numbered = decisions.append_column(_NUMBER, pa.array(np.arange(len(decisions))))
        try:
            with self._connection.cursor() as cursor:
                found = cursor.from_arrow(numbered).filter(self._expression).project(_NUMBER).to_arrow_table()
        except duckdb.Error as error:
            raise SettingsError(self._message(str(error))) from None
        chosen[found[_NUMBER].to_numpy()] = True
        return chosen

    def _message(self, message: str) -> str:
        if missing := _MISSING.search(message):
            close = get_close_matches(missing[1], schemas.DECISIONS.names, n=1)
            meant = f"did you mean {close[0]!r}? " if close else ""
            columns = ", ".join(schemas.DECISIONS.names)
            return f"{self._name}: decisions have no column {visible(missing[1])!r}; {meant}they have {columns}"
        wording = visible(" ".join(message.partition("\n\nLINE ")[0].split()))
        wording = wording if len(wording) <= _LONGEST_ERROR else f"{wording[:_LONGEST_ERROR]} ..."
        return (
            f"{self._name} {visible(self.sql)!r}: {wording}; give a condition over the columns of decisions (DuckDB's SQL), "
            "such as: uri LIKE 's3://shop/%' AND policy = 'shop'"
        )
