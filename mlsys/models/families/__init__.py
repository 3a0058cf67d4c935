"""The model families of mlsys: one file each, which has the family's name and holds it as ``FAMILY``."""
