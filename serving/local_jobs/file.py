"""The SQLite file of the local jobs: its tables. serving/sqlite_file.py has the transactions on it."""

from __future__ import annotations

from typing import Final

from serving.errors import JobsUnavailable
from serving.sqlite_file import Schema

TABLES: Final = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  ident TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, content BLOB NOT NULL,
  created REAL NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, token INTEGER NOT NULL DEFAULT 0,
  until REAL, step INTEGER, steps INTEGER, events INTEGER NOT NULL DEFAULT 0,
  result BLOB, code TEXT, detail TEXT, ended REAL, expires REAL);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_key ON jobs (owner, key) WHERE key <> '';
CREATE INDEX IF NOT EXISTS jobs_open ON jobs (status, number) WHERE ended IS NULL;
CREATE INDEX IF NOT EXISTS jobs_expires ON jobs (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS events (
  job INTEGER NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (job, number)) WITHOUT ROWID;
"""


def _unusable() -> JobsUnavailable:
    remedy = "The operator finds the file in the state folder; its log says more."
    return JobsUnavailable("The file of the jobs cannot be used.", remedy=remedy)


SCHEMA: Final = Schema(TABLES, 1, _unusable)
