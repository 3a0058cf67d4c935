"""Step 1: from a source to checked rows at rest, and which rows are for what.

The parts, in the order in which a run passes through them::

    sources    what a source string names: files, objects, packages, databases, tables of a lake (`lake`);
               a `piece` is what a task reads of it
    decoding   bytes → UTF-8 text, or which byte of which line is broken
    read       one piece of a source as bounded batches (`batch`), values still as they were written;
               `records` for JSON lines and databases, `pictures` and `documents` for folders of these
    inference  which type every column has, decided over all rows of all pieces
    convert    written values → the types that snapshots store, misfits named; `parsing` reads texts
    contract   the schema file: written and read back; `keeping` puts each row to it
    layout     what a stored row looks like; `roles` says what its columns are for
    conform    a batch as it was written → the rows that are stored, and counts of them
    aside      rows that break it: counted, sampled, quarantined
    passes     all of the above for one piece, in two passes; runs in a task of its own (`spread`)
    reuse      what earlier collections found of the same bytes
    increment  rows beyond the last collection by a `cursor`, kept as they were written (`stored`, `seen`)
    history    volume, freshness and columns (`evolution`) against earlier collections
    repeats    rows of one key, of which the last stays; values that were to be unique
    snapshot   take: pieces → content-addressed Parquet, a quarantine and a `report` (`gathering`)
    task       what is to be predicted
    split      which rows are for training, validation, test and traffic: `draw` by `assignment`
    draft      a recipe for a table that nobody has seen
"""
