"""What a worker writes to the process that asked: messages of a header and a body. Nothing in them is unpickled.

| kind     | sink          | count            | body                                         |
|----------|---------------|------------------|----------------------------------------------|
| `READY`  | 0             | 0                | none; once, after the start                  |
| `ALIVE`  | 0             | 0                | none; there is progress                      |
| `SHAPE`  | of the rows   | bytes            | JSON: the shape of the rows that follow      |
| `ROWS`   | of the rows   | rows             | the rows                                     |
| `REPEAT` | of the rows   | rows             | none; the last row again                     |
| `CLEAR`  | of the rows   | 0                | none; all rows so far are void               |
| `ANSWER` | 0             | bytes            | JSON: the answer of the job                  |
| `ERROR`  | 1 if it ends  | bytes            | JSON: name of the class, and reason          |
"""

import struct

__all__ = ["ALIVE", "ANSWER", "CLEAR", "ERROR", "FRAMES", "HEADER", "READY", "REPEAT", "ROWS", "SAMPLES", "SHAPE"]

HEADER = struct.Struct("<cBQ")
READY, ALIVE, SHAPE, ROWS, REPEAT, CLEAR, ANSWER, ERROR = (bytes([letter]) for letter in b"HASR=0.!")
FRAMES, SAMPLES = 0, 1  # the sinks
