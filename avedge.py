"""avedge: speech separation by a face and audio-visual crowd counting, from training to a served answer.

First steps:  avedge demo        everything once, on this machine
              avedge serve       then: avedge separate talk.wav --face photo.jpg
                                       avedge count square.jpg --sound square.wav
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True)
class Verb:
    """One subcommand; its module is imported only when it is asked for."""

    name: str
    module: str
    help: str
    prefix: str = ""  # of `add_arguments` and `run`, where one module holds several verbs


VERBS = (
    Verb("demo", "serve.demo", "synthetic samples, export, serve, both clients and a short load test, in one folder"),
    Verb("doctor", "serve.doctor", "what is installed, what can run here, and whether the server answers"),
    Verb("separate", "clients.separate_command", "one person's voice out of a recording, by a photo of the face"),
    Verb("count", "clients.count_command", "people in a photo, with its sound where there is any"),
    Verb("serve", "serve.commands", "start Triton on this machine with the exported models"),
    Verb("export", "export.commands", "ONNX and TorchScript files of every model, proven equal and published"),
    Verb("perf", "perf.commands", "measure a running server with perf_analyzer"),
    Verb("synthesize", "train.synthetic.commands", "make synthetic talkers or crowd scenes"),
    Verb("train", "train.commands", "train a model by its config"),
    Verb("evaluate", "train.commands", "judge trained weights on a test split", prefix="evaluate_"),
)
EXIT_UNEXPECTED, EXIT_OUTPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 8, 130, 143
