"""Batching: a pure decision (policy) and the thin asyncio shell around an engine (batcher)."""
