"""Grafana dashboards and Prometheus rules, and the code that writes the dashboards."""
