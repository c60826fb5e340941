"""The web console: approvals, held mail, exceptions, the state of the system. Refuses to decide by a GET."""
