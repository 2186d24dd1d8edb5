"""What turns a module into an artefact and proves it equal."""

import os

# ONNX Runtime from 1.29 on tells its maker of graphs, machine and use, unless it is told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
