"""Speaks the milter protocol through the library miltertest: ``miltertest_client.py SOCKET``. A program of its own."""

import socket
import sys
from typing import Any

import miltertest
from miltertest import constants

PEOPLE = {"clerk": "clerk@city.example", "mayor": "mayor@city.example", "all": "everyone@city.example"}


def message(connection: Any, sender: str, recipients: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """One message; the answers to its end."""
    connection.send_macro(constants.SMFIC_MAIL, i="XYZ")
    connection.send(constants.SMFIC_MAIL, args=[f"<{sender}>"])
    for recipient in recipients:
        connection.send(constants.SMFIC_RCPT, args=[f"<{recipient}>"])
    connection.send_headers([("From", sender), ("To", recipients[0]), ("Subject", "A picnic")])
    connection.send(constants.SMFIC_EOH)
    connection.send_body("A picnic on Friday.\r\n")
    found: list[tuple[str, dict[str, Any]]] = connection.send_eom()
    return found


def main(path: str) -> None:
    """Four messages."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        connection = miltertest.MilterConnection(sock)
        connection.optneg_mta(protocol=0)  # its helpers wait for an answer to everything
        connection.send(constants.SMFIC_CONNECT, hostname="desk", family="4", port=25, address="127.0.0.1")
        connection.send(constants.SMFIC_HELO, helo="desk")
        (plain,) = message(connection, PEOPLE["clerk"], [PEOPLE["mayor"]])
        print("plain:", plain[0])
        (refused,) = message(connection, "contractor@city.example", [PEOPLE["mayor"]])
        print("contractor:", refused[0], refused[1]["smtpcode"], refused[1]["text"].split(" ")[0])
        (held,) = message(connection, PEOPLE["clerk"], [PEOPLE["all"]])
        print("city:", held[0])
        removed, kept = message(connection, PEOPLE["clerk"], [PEOPLE["all"], PEOPLE["mayor"]])
        print("both:", removed[0], kept[0], removed[1]["rcpt"])


if __name__ == "__main__":
    main(sys.argv[1])
