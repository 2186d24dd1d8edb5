"""perf_analyzer sweeps and reports against a served repository."""
