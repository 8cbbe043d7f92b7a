"""Networks that take noise away, led by a text, and what is needed to train and to measure them.

network.py      the U-Net
prompts.py      words to what the U-Net looks at
codec.py        the autoencoder around it, in whose latents it works
rows.py         things as they look, as latents, with noise
denoising.py    all networks as one, and what it should predict of noise that was added
drawing.py      pictures out of noise, by the very solvers that serve
family.py       what families of such networks have in common
"""
