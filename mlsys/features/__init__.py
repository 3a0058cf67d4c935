"""Step 3: from the rows of a request to the numbers that a model sees.

===========  ================================================================
`joins`      feature tables joined on keys, as of the row's time
`derive`     new features as SQL over the row's columns
`plan`       which operation each column gets, and why
`operations` the operations: what each computes, for columns and for one row
`rows`       how one row is computed: closures, a few microseconds
`program`    a fitted plan: frozen, portable, the same bits in both ways
===========  ================================================================
"""
