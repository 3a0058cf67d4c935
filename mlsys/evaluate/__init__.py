"""Step 6: how good a model is on rows that nothing before has seen, and whether that is enough.

`metrics`, `threshold`, `calibration`, `bootstrap` and `gate` are arithmetic on arrays;
`score` opens the test rows and puts them to work, `render` draws the result.
"""
