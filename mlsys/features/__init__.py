"""Step 3: from the rows of a request to the numbers that a model sees.

============  ==============================================================
`joins`       feature tables joined on keys, as of the row's time
`joining`     a join with all its checks done: what meets, what is taken
`online`      the same at prediction time, from a store of latest values
`terms`       how keys and times of two tables are compared: as which types
`matching`    which row goes with which: the last one known by then
`resolving`   what each row gets: the core of every join
`assembly`    stored tables of any size joined to stored rows
`partwise`    one such join, part by part
`parts`       keys, times and values divided by the hash of the key
`placing`     what was found, put beside the rows
`sweeps`      window aggregates of all keys at once
`exact`       sums of floats without rounding
`windows`     aggregates over the latest events of a key: the one definition
`derive`      new features as SQL over the row's columns
`plan`        which operation each column gets; the recipe's word is last
`choices`     the automatic choice for each kind, and why
`defaults`    what an operation has to know besides what the recipe says
`constants`   the constants of an operation, from the training statistics
`scalings`    those of a number: what replaces, centres and divides it
`vectors`     numbered columns that are the coordinates of one vector
`stored`      the operations that there are, read back from JSON
`render`      the plans as one HTML page
`program`     a fitted plan: frozen, portable, the same bits in both ways
`columns`     many rows: Polars expressions, block by block
`training`    what training works with: the rows of each fold get encodings of the other folds
`rows`        one row: closures, a few microseconds
`values`      how a value is read, in a column and alone
`zones`       the wall clock of a zone, for one time as for a column
`operations`  what is computed: numbers
`text`        what is computed: numbers of a text, its place among others
`factors`     the axes of that place, from a sample of the texts
`lookups`     what is looked up: categories, true and false
`target`      what is looked up: the mean of the target in a category
`hashed`      what is looked up: the bucket of a category
`bins`        what is looked up: the quantile bin of a number
`times`       what is looked up: parts of a time
`pictures`    what operations on pictures share
`image`       sizes, levels, gradients and pixels of pictures
`gradients`   histograms of oriented gradients
`encoders`    pictures through somebody's own function
`elapsed`     what is computed: the time between two columns
`lists`       what is computed: numbers of a list of numbers
============  ==============================================================
"""
