"""Fills a drop folder as programs and people do: whole files, files in pieces, files that
never become whole, links, files of somebody else. Prints a line for each: its name, and
what has to become of it.

    dropfiles.py FOLDER COUNT SEED OTHER_UID
"""

import json
import os
import random
import sys
import time

folder, count, seed, other_uid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
pending = os.path.join(folder, "pending")
outside = os.path.join(folder, "outside")
rng = random.Random(seed)
waiting = []  # (path, text that is still to come)


def text_of(name):
    return json.dumps({"id": name, "payload": {"message": name}, "mine": [1, True, "x"]})


def put(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def whole(name, path):
    put(path, text_of(name))


def moved(name, path):
    put(path + ".tmp", text_of(name))
    os.rename(path + ".tmp", path)


def pieces(name, path):
    text = text_of(name)
    cut = rng.randrange(len(text))
    put(path, text[:cut])
    waiting.append((path, text[cut:]))


def broken(_name, path):
    put(path, rng.choice(["", "{", '{"id": "x"', "garbage", "\0\0", '{"a": 1}{"b": 2}']))


def wrong(_name, path):
    put(path, rng.choice(["[]", "7", '{"id": "a b"}', '{"class": "quick"}', '{"id": "x", "payload": 7}']))


def symlink(_name, path):
    os.symlink(outside, path)


def hardlink(_name, path):
    os.link(outside, path)


def foreign(name, path):
    put(path + ".tmp", text_of(name))
    os.chown(path + ".tmp", other_uid, -1)
    os.rename(path + ".tmp", path)


KINDS = [(whole, "task"), (moved, "task"), (pieces, "task"), (broken, "rejected"), (wrong, "rejected"),
         (symlink, "rejected"), (hardlink, "rejected")]
if os.geteuid() == 0:
    KINDS.append((foreign, "rejected"))


def go_on(few):
    """Write the rest of some of the files that came in pieces."""
    rng.shuffle(waiting)
    while len(waiting) > few:
        path, text = waiting.pop()
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


put(outside, text_of("outside"))
for number in range(count):
    kind, fate = rng.choice(KINDS) if rng.random() < 0.5 else KINDS[1]
    name = f"f{number:05d}"
    kind(name, os.path.join(pending, name + ".json"))
    print(name, fate, kind.__name__, flush=True)
    if rng.random() < 20 / count:
        go_on(rng.randrange(10))
        time.sleep(rng.random())
go_on(0)
