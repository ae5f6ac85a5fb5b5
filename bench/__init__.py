"""Time and memory, as ratios within one run; `python -m bench --help` lists what is measured.

Threads wait as they do with the command line, which is what users see: importing this sets it, before torch.
"""

from avpea.threads import settle

settle()
