"""Tables and plots of records: they read records, never models."""
