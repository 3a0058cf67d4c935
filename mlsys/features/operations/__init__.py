"""The operations of features, a file for each kind of column; `operation_registry` lists them."""
