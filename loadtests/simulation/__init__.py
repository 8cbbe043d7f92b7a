"""What one machine measured, put together a thousandfold: a simulation of gateways and GPUs, `make scaling`."""
