"""The way to NVIDIA Triton: messages, the bounded link, and what it shall have loaded."""
