"""The control process: one elected leader dispatches slices, takes expired leases and brings batches to rest."""
