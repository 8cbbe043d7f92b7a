"""One file a task; its name is the verb of the route. Contract: serving/task.py."""
