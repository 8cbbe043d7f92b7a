"""Which versions are loaded, and which of them answers: resident, loader, router, reconciler."""
