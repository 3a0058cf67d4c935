"""Join feature tables to rows as of each row's time."""
