"""Writing many records to PostgreSQL."""
