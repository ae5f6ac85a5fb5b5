"""A job that kills its process, in a file that is quick to import."""

import os


def die_on_three(number: int) -> int:
    if number == 3:
        os._exit(7)
    return number * number
