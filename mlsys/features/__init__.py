"""Step 3: from the rows of a request to the numbers that a model sees.

============  ===================================================================================
`derive`      new features as SQL over the row's columns
`plan`        the operations of each column: the recipe's word is last
`auto_plan`   the automatic choice for each kind of column, and the reason
`program`     a fitted plan: frozen, portable, the same bits for a table and for a row
`executors`   a program run on whole tables
`row_program` a program run on single records
`training`    programs for training rows, whose target encodings come from the other folds
`operations`  what a column can become; each operation is one file
`domains`     the meaning of a value, in a column and alone
`clocks`      the wall clock of a time zone, for one time as for a column
`report`      the plans as one HTML page
`joins`       feature tables joined on keys, as of the row's time
`online`      the same at prediction time, from a store of latest events
============  ===================================================================================
"""
