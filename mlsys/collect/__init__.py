"""Step 1: collect a source as checked rows at rest, and divide them into parts.

The modules, in the order in which a run passes through them:

==================  ======================================================================================
`snapshot`          take: fragments of a source → content-addressed Parquet, a quarantine and a report
`incremental`       with ``data.incremental``, the rows beyond the last collection, stored as increments
`history`           volume, freshness and columns compared with earlier collections
`pipeline`          the passes over one fragment, each in a task: scan, write, drop duplicates
`cache`             results of earlier collections for the same bytes
`type_inference`    the type of every column, from counts over all rows of all fragments
`storage_schema`    the stored columns, their types and roles
`contract`          the schema file: written, read back, and rows validated against it
`quarantine`        rows that do not fit: counted, sampled and written with the reason
`duplicates`        rows that repeat others, or come again in a later collection
`report`            counts and warnings, and the limits at which a collection stops
`task`              the prediction task, from the target's values
`split`             parts and folds, stored as data; `assignment` assigns them, `bins` draws, `equal_rows` groups
`screening`         columns that no model should get: known only with the answer, or personal
`survey`            a table that nobody has described, for `mlsys init`
`proposals`         target, id, time, group and suspicious columns of it, with reasons
`recipe_template`   a recipe for it
==================  ======================================================================================
"""
