"""The counting networks' names; torch-free, so that the command line's help need not load it."""

from __future__ import annotations

# In the order of Table 1: what the command line calls them, and what their weights are called.
MODELS = {
    "mcnn": "mcnn",
    "cannet": "cannet",
    "csrnet": "csrnet",
    "audiocsrnet": "audiocsrnet",
    "cc-v": "crowd_v",
    "cc-av": "crowd_av",
}
# As papers print them, by the command line's names.
TITLES = {
    "mcnn": "MCNN",
    "cannet": "CANNet",
    "csrnet": "CSRNet",
    "audiocsrnet": "AudioCSRNet",
    "cc-v": "CC-V",
    "cc-av": "CC-AV",
}
