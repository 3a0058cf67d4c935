from collecting import store, take, write

__all__ = ["store", "take", "write"]
