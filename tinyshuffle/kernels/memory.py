from ..memory import Pool, empty, zeros  # noqa: F401
