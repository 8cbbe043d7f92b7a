"""TensorFlow.js graph models as torch modules: `load` in network.py.

model_file.py   model.json and its .bin file -> nodes and constants
network.py      nodes -> torch modules in the order in which they run
conversions.py  a function for each kind of node, those that look at windows in spatial.py
builder.py      what they have made so far
operators.py    one torch module for each kind of node
layouts.py      which axis of a torch tensor holds which axis of the graph's tensor
"""
