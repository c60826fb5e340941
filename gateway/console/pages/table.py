"""All pages of this package, for the console's table of routes."""

from gateway.console.context import Page
from gateway.console.pages import accounts, content, exceptions, held, item, link, lists, mine, rules, system, waiting

PAGES: tuple[Page, ...] = (
    *waiting.ROUTES,
    *held.ROUTES,
    *item.ROUTES,
    *content.ROUTES,
    *mine.ROUTES,
    *link.ROUTES,
    *exceptions.ROUTES,
    *lists.ROUTES,
    *rules.ROUTES,
    *system.ROUTES,
    *accounts.ROUTES,
)
