"""Readers of sources: one file a format, for collection, batch prediction, labels and feature tables.

==============  ==============================================================================
`base`          the protocol: Fragment, Batch, BadRecord, Reader
`registry`      which reader a source has; `register` adds a format
`files`         files of a path, folder, glob, URI or package
`conversion`    written values as the types that snapshots store: the one rule for cells
`translation`   texts in other notations: numbers with marks, dates in other orders
`decoding`      bytes of text files to UTF-8, unpacked
`csv`           CSV and TSV files
`csv_layout`    where the header of a CSV file stands, and marks of programs around it
`parquet`       Parquet files
`records`       JSON lines, and the result of an SQL query
`folders`       folders of pictures or texts, a file a row
`lake`          Delta and Iceberg tables
`built_in`      data sets of scikit-learn
`increments`    rows that earlier collections took of a source that grows
==============  ==============================================================================
"""

from __future__ import annotations

from mlsys.readers.registry import register

__all__ = ["register"]
