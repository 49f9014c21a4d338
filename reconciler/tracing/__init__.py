"""Traces by OpenTelemetry. Only the daemon imports this, and only if the config names an endpoint."""
