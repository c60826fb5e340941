"""What a letter says that its reader can do: links into the console, or commands where there is none. As text and HTML.

Both links open a page; nothing is decided by opening it. Refuses nothing: ids and tokens hold no character that HTML or
a shell would read otherwise.
"""

import html

from gateway.hold.letters import Markup
from gateway.hold.links import NewLink

PATH = "/decide/"
"""Where the console shows what a one-time link is for."""


def decide(console: str, item: str, link: NewLink | None) -> tuple[str, Markup]:
    """For an approver."""
    if link is None:
        return _commands(
            f"civicgate hold show {item} --as YOUR-ADDRESS --body",
            f"civicgate hold approve {item} --as YOUR-ADDRESS",
            f'civicgate hold reject {item} --as YOUR-ADDRESS --reason "..."',
        )
    where = f"{console}{PATH}{link.token}"
    text = (
        f"  Approve: {where}?choice=approve\n"
        f"  Reject:  {where}?choice=reject\n\n"
        f"Each opens a page; nothing is decided before you confirm it there. The links\n"
        f"are for you alone and work once. To read the message first, log in:\n\n"
        f"  {console}/items/{item}"
    )
    page = (
        f'<p><a class="button yes" href="{_url(where)}?choice=approve">Approve …</a> '
        f'<a class="button no" href="{_url(where)}?choice=reject">Reject …</a></p>\n'
        "<p>Each opens a page; nothing is decided before you confirm it there. The links are for you alone and work "
        f'once. <a href="{_url(console)}/items/{item}">Log in to read the message first</a>.</p>'
    )
    return text, Markup(page)


def attest(console: str, item: str, link: NewLink | None) -> tuple[str, Markup]:
    """For the sender."""
    if link is None:
        return _commands(
            f"civicgate hold attest {item} --as YOUR-ADDRESS", f"civicgate hold withdraw {item} --as YOUR-ADDRESS"
        )
    where = f"{console}{PATH}{link.token}"
    text = (
        f"  {where}\n\n"
        "It opens a page on which you confirm this, or take your message back. The\n"
        "link is for you alone and works once."
    )
    page = (
        f'<p><a class="button yes" href="{_url(where)}">Confirm, or take it back …</a></p>\n'
        "<p>It opens a page on which you confirm this, or take your message back. The link is for you alone and works "
        "once.</p>"
    )
    return text, Markup(page)


def _commands(*lines: str) -> tuple[str, Markup]:
    return "\n".join(f"  {line}" for line in lines), Markup(f"<pre>{html.escape(chr(10).join(lines))}</pre>")


def _url(text: str) -> str:
    return html.escape(text, quote=True)
