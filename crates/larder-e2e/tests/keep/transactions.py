"""Transactions in an SQLite database in WAL mode, each told of once its COMMIT has returned; and whether they are all there.

    transactions.py write DATABASE    commits one after another until one fails, and prints the number of each
    transactions.py check DATABASE    checks everything, and prints the number of the last
"""

import hashlib
import sqlite3
import sys

ACCOUNTS = 100
# Older entries are deleted, so that pages are used again.
KEPT = 200


def content(number):
    """What a transaction stores: less than a page, or several."""
    digest = hashlib.sha256(b"%d" % number).digest()
    return digest * (1 + digest[0])


def transfer(number):
    """The accounts between which a transaction moves something, and how much."""
    return number % ACCOUNTS, number * 7 % ACCOUNTS, number % 1000


def open_database(path):
    database = sqlite3.connect(path, isolation_level=None)
    (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
    assert mode == "wal", mode
    database.execute("PRAGMA synchronous = FULL")
    # Many a checkpoint within a second.
    database.execute("PRAGMA wal_autocheckpoint = 64")
    return database


def make_tables(database):
    database.execute("BEGIN IMMEDIATE")
    database.execute("CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY, content BLOB NOT NULL)")
    database.execute("CREATE TABLE IF NOT EXISTS account (number INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
    database.executemany("INSERT OR IGNORE INTO account VALUES (?, 0)", ((i,) for i in range(ACCOUNTS)))
    database.execute("COMMIT")


def last_number(database):
    return database.execute("SELECT max(number) FROM entry").fetchone()[0] or 0


def write(database):
    make_tables(database)
    number = last_number(database)
    while True:
        number += 1
        source, target, amount = transfer(number)
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO entry VALUES (?, ?)", (number, content(number)))
        database.execute("DELETE FROM entry WHERE number <= ?", (number - KEPT,))
        database.execute("UPDATE account SET balance = balance - ? WHERE number = ?", (amount, source))
        database.execute("UPDATE account SET balance = balance + ? WHERE number = ?", (amount, target))
        database.execute("COMMIT")
        print(number, flush=True)


def check(database):
    told = database.execute("PRAGMA integrity_check").fetchall()
    assert told == [("ok",)], told
    make_tables(database)
    last = last_number(database)
    expected = list(range(max(1, last - KEPT + 1), last + 1))
    entries = database.execute("SELECT number, content FROM entry ORDER BY number").fetchall()
    assert [number for number, _ in entries] == expected, ("entries", last, [number for number, _ in entries])
    for number, bytes_found in entries:
        assert bytes_found == content(number), ("entry", number)
    balances = [0] * ACCOUNTS
    for number in range(1, last + 1):
        source, target, amount = transfer(number)
        balances[source] -= amount
        balances[target] += amount
    found = [balance for (balance,) in database.execute("SELECT balance FROM account ORDER BY number")]
    assert found == balances, ("balances", last, found, balances)
    print(last)


def main():
    what, path = sys.argv[1:]
    if what == "check":
        database = open_database(path)
        check(database)
        database.close()
        return
    try:
        write(open_database(path))
    except sqlite3.DatabaseError as error:
        print(f"transactions: {error}", file=sys.stderr)


main()
