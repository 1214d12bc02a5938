"""A test for each report from the field that applies, named by the report's id."""
