"""What is said of a server: conditions and their reasons, performance, checklist, diagnosis, Events."""
