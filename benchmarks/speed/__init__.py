"""The speed of bilstm and of its peers, measured side by side in one run: `python -m benchmarks.speed`."""
