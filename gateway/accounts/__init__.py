"""Who may log in: local accounts, sessions, tokens. Refuses to keep a password or a token readable."""
