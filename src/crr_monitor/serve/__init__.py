"""The embedded monitor as one process: sources, the store, ticks, and an HTTP server for events, figures and pages."""
