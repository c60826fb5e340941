"""The next hop: an SMTP client of our own with a pool of connections. Says «success» only for a well-formed 2yz."""

from gateway.deliver.capabilities import Capabilities
from gateway.deliver.nexthop import NextHop
from gateway.deliver.transaction import Transaction

__all__ = ["Capabilities", "NextHop", "Transaction"]
