"""The rules: values, schema and the decision. Pure: no sockets, no clock, no database."""
