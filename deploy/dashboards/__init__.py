"""Grafana's dashboards as code: what is drawn of what, one file a dashboard. `make dashboards` writes the JSON."""
