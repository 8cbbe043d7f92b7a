"""The one SQLite file of the local index: its tables. serving/sqlite_file.py has the transactions on it."""

from __future__ import annotations

from typing import Final

from serving.errors import IndexUnavailable
from serving.sqlite_file import Schema

TABLES: Final = """
CREATE TABLE IF NOT EXISTS collections (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE, model TEXT NOT NULL, created TEXT NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0, items INTEGER NOT NULL DEFAULT 0, alone INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS items (
  revision INTEGER PRIMARY KEY,
  collection INTEGER NOT NULL, ident TEXT NOT NULL, kind TEXT NOT NULL, content BLOB NOT NULL, metadata TEXT NOT NULL,
  UNIQUE (collection, ident));
CREATE TABLE IF NOT EXISTS spaces (
  collection INTEGER NOT NULL, version INTEGER NOT NULL, dimensions INTEGER NOT NULL,
  vectors INTEGER NOT NULL DEFAULT 0, born INTEGER NOT NULL,
  PRIMARY KEY (collection, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (
  collection INTEGER NOT NULL, version INTEGER NOT NULL, revision INTEGER NOT NULL, vector BLOB NOT NULL,
  filled INTEGER NOT NULL,
  PRIMARY KEY (collection, version, revision));
CREATE INDEX IF NOT EXISTS vectors_filled ON vectors (collection, version, filled);
CREATE TABLE IF NOT EXISTS gone (
  revision INTEGER PRIMARY KEY, collection INTEGER NOT NULL, item INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS counter (only INTEGER PRIMARY KEY CHECK (only = 0), revision INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (0, 0);
"""


def _unusable() -> IndexUnavailable:
    remedy = "The operator finds the file in the state folder; its log says more."
    return IndexUnavailable("The file of the collections cannot be used.", remedy=remedy)


SCHEMA: Final = Schema(TABLES, 1, _unusable)
