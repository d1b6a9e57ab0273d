"""Webhooks: what happened is sent to whom it concerns, signed, at least once, until it was received."""
