"""Feature tables joined to rows, as of each row's time."""
