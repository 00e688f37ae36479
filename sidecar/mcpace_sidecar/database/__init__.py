"""PgBouncer's configuration, from the URL of a database."""
