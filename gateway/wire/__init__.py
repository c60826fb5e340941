"""SMTP on the wire, without sockets: octets in, events out. Refuses what RFC 5321 does not allow, by name."""
