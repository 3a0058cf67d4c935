"""Operations of the feature program, a kind of column in each file."""
