"""Makes what ./check unpacked findable."""

import os

from chart import HERE

os.environ["PATH"] += f":{HERE}/.cache/prometheus/usr/bin"
