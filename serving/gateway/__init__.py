"""HTTP only: routes, limits, errors to status codes. What a request means is decided below, in the pipeline."""
