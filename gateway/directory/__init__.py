"""The city's directory, from a file: people, departments, roles and lists. Refuses references that lead nowhere."""

from gateway.directory.directory import Department, Deputy, Directory, MailingList, Person
from gateway.directory.loader import load_directory

__all__ = ["Department", "Deputy", "Directory", "MailingList", "Person", "load_directory"]
