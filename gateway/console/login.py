"""Logging in and out. Refuses to say which half of a login was wrong."""

from gateway.console.context import Page

ROUTES: tuple[Page, ...] = ()
