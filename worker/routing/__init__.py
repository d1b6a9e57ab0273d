"""Who serves a line: how deployments share an alias's load, which ones are avoided, and what stands in for it."""
