"""Step 2, exploratory analysis: a profile of the training rows, alerts, and a scan for leakage.

================  ==================================================================
`scan`            one pass over the training rows: statistics by fold, a sample, row hashes
`alerts`          alerts about the table, its columns and pairs of them
`leakage`         columns that know the answer, rows in two parts, broken order
`associations`    pairs of columns, missing values and time, as JSON
`document`        the whole profile as JSON: what is stored
`report`          the JSON as one HTML page
`report_columns`  its table of columns and a card for each
================  ==================================================================
"""
