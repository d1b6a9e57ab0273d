"""The engine of a worker process: one asyncio loop that executes leased slices."""
