"""What the child runs that vets versions: `python -m serving.vetting PARENT`, jobs in, steps out, as lines of JSON.

It loads with the same engine, binds with the same task and warms up with the same rows as the gateway, so that what is
vetted is what will serve. What it meets may be hostile or broken; it may die of it, and nothing else does.
"""
