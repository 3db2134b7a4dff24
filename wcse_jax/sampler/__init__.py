"""Drawing solutions: settings, token draws, host schedule, device engine."""
