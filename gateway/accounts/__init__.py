"""Who may use the console: local accounts, sessions, API tokens, throttling of logins.

Refuses to know of HTTP, and to keep any secret in a form that opens anything.
"""

from gateway.accounts.accounts import Accounts, open_accounts
from gateway.accounts.sessions import Method, Session, Stage, Visit

__all__ = ["Accounts", "Method", "Session", "Stage", "Visit", "open_accounts"]
