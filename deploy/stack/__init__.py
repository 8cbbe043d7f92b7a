"""docker-compose.yml without Docker: its services, with its settings, as processes of this machine. `make stack`."""
