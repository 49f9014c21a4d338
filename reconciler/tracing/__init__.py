"""Traces by OpenTelemetry. Only the daemon imports this, and only when it is told where traces go."""
