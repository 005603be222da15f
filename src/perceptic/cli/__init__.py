"""One module per command: it parses, calls one function below, and prints."""
