"""Step 9: monitor the endpoint's predictions, window by window, against the rows that its model was made from.

`judge.compare` reads the prediction log once and judges for every window whether inputs,
predictions or labels drifted and, where labels have come, how the model performs; `log_scan`
sorts the log's rows into `windows` and joins `labels`; `reference` has the training rows' bins;
`drift`, `significance` and `drift_alarms` judge distributions, `performance` metrics and
calibration; `decision` says whether to keep the model, watch it or train it again;
`metric_tables` and `report` write what is stored.
"""
