"""What a forward-path is to the gateway: whose, which way, which lists. Pure; a transaction asks it, and ``explain``.

Refuses to relay for strangers, and addresses that hide where they go.
"""

from collections.abc import Container

from gateway.directory import Directory
from gateway.model.envelope import Direction, Recipient, a_labels
from gateway.model.reply import Reply
from gateway.settings import NetworkSettings
from gateway.wire.command import PathArgument, unquoted

RELAY_DENIED = Reply.of(550, "5.7.1", "This gateway relays only for the city")
ROUTED = Reply.of(550, "5.7.1", "An address with a route in it (% or ! or a second @) is not taken here")
LITERAL = Reply.of(550, "5.1.2", "An address needs a domain here; an IP address in brackets is not taken")

_ROUTING = frozenset("%!@")
"""What makes a mail server send on to another place than the domain says; it trusts us, so that we must not ask."""


def resolve(
    path: PathArgument, *, inside: bool, network: NetworkSettings, directory: Directory, hosts: Container[str] = ()
) -> Recipient | Reply:
    """Direction and lists of a recipient for a client ``inside`` or outside, or the refusal that the client reads.

    ``hosts``: names (A-labels) under which our servers take mail for themselves, whatever the city's domains are.
    """
    address = path.address
    domain = address.rpartition("@")[2]
    internal = network.is_internal(address)
    if not (internal or inside):
        return RELAY_DENIED
    if routed(address) and (internal or a_labels(domain) in hosts):
        return ROUTED
    if domain.startswith("["):
        return LITERAL
    direction = (Direction.INTERNAL if internal else Direction.OUTBOUND) if inside else Direction.INBOUND
    return Recipient(address, direction, path.parameters, directory.lists_of(address))


def own_names(hostname: str, next_hop: str) -> tuple[str, ...]:
    """``hosts`` for :func:`resolve`: what the gateway and the server behind it call themselves (``""``: not known)."""
    return hostname.lower(), next_hop, "localhost"


def routed(address: str) -> bool:
    """Whether a server whose own domain it is would send it on to where the local part says."""
    return not _ROUTING.isdisjoint(unquoted(address.rpartition("@")[0]))


def mailbox(address: str) -> str:
    """The form in which two recipients of a message are one: the domain as the DNS has it, the local part verbatim."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{a_labels(domain)}"
