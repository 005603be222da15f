"""The networks: pure torch; no files, no network, no media."""
