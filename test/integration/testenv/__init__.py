"""Real httpd processes, and clients that send exact bytes, for the integration tests."""
