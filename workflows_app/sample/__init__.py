"""The sample workflow: two small services that need nothing but Python."""
