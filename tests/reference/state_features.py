#!/usr/bin/env python3
"""Makes adapters/networks/src/graphs/state_features.json: users, features and neighbours of a small state.

    python tests/reference/state_features.py > adapters/networks/src/graphs/state_features.json

Written from section 13 of circuits/STATEMENT.md alone, with the standard library only. Ratings come from a small linear
congruential generator; a row is its numbers as little-endian binary32 in hexadecimal. Sums are loops: sum() of Python
3.12 compensates.
"""
import json, struct
from math import log1p as L, sqrt

HOUR, DAY, LATEST = 3600, 86400, 400
compact = json.JSONEncoder(separators=(",", ":")).encode


def binary32(*numbers):
    return struct.pack("<%df" % len(numbers), *numbers)


def days(x):
    return L(max(x, 0.0) / 86400) / 4


class List:
    """Ratings that a user received, or gave, in the order of the state: (time, source, target, weight) each."""

    def __init__(self, rows, state):
        self.rows, self.c, self.t = rows, len(rows), state.t
        self.S = Q = self.recent = 0.0
        self.N = 0
        for i, (_, _, _, w) in enumerate(rows):
            self.S += w
            Q += w * w
            self.N += w < 0
            self.recent = 0.7 * self.recent + (1 - 0.7) * w if i else w
        self.above = (self.S - state.mean * self.c) / (self.c + 2)
        self.share = (self.N + 2 * state.share) / (self.c + 2)
        most = max(self.c, 1)
        self.deviation = sqrt(max(0.0, Q / most - (self.S / most) * (self.S / most)))
        self.age = days(self.t - rows[-1][0]) if rows else 0.0
        self.last = rows[-1][3] if rows else 0.0

    def latest(self, n=LATEST):
        return self.rows[-n:][::-1]

    def within(self, span):
        rows = [row for row in self.latest() if self.t - row[0] <= span]
        return len(rows), len([row for row in rows if row[3] < 0])


class State:
    def __init__(self, t, ratings):
        self.t = t
        rows = sorted({(time, source.encode(), target.encode(), struct.unpack("<f", binary32(w))[0])
                       for source, target, w, time in ratings})
        total = 0.0
        for row in rows:
            total += row[3]
        self.mean = total / len(rows) if rows else 0.0
        self.share = len([row for row in rows if row[3] < 0]) / len(rows) if rows else 0.0
        users = sorted({end for row in rows for end in row[1:3]})  # a user's number is its place
        self.into = {user: List([row for row in rows if row[2] == user], self) for user in users}
        self.out = {user: List([row for row in rows if row[1] == user], self) for user in users}
        self.given = {(row[1], row[2]): row for row in rows}  # the last one of each pair

    def lists(self, user):
        return (self.into[user], self.out[user]) if user in self.into else (List([], self), List([], self))

    def user(self, user):
        into, out = both = self.lists(user)
        firsts = [x.rows[0][0] for x in both if x.rows]
        day_in, day_out, month = into.within(DAY), out.within(DAY), into.within(30 * DAY)
        return ([into.c == 0, out.c == 0] + [L(x.c) / 4 for x in both] + [x.above / 10 * 4 for x in both]
                + [x.share * 2 for x in both] + [L(x.N) / 2 for x in both] + [x.recent / 10 * 2 for x in both]
                + [into.age, out.age, days(self.t - min(firsts)) if firsts else 0.0]
                + [L(day_in[0]) / 2, L(day_in[1]), L(day_out[0]) / 2, L(day_out[1]), L(month[1])]
                + [out.deviation / 10 * 2, L(month[0]) / 3])

    def pair(self, source, target):
        (own, out), (into, theirs) = self.lists(source), self.lists(target)

        def agree(rows, key):  # how many of the rows have a last rating at their key, and the products
            count, products = 0, 0.0
            for row in rows:
                if key(row) in self.given:
                    count, products = count + 1, products + self.given[key(row)][3] * row[3] / 100
            return count, products

        trusted, trust = agree(into.latest(), lambda row: (source, row[1]))
        rated, opinion = agree(theirs.latest(), lambda row: (row[2], source))
        common, alike = agree(theirs.latest(), lambda row: (source, row[2]))
        judges, verdicts = agree(own.latest(), lambda row: (row[1], target))
        said = weights = weighed = surprise = 0.0
        for _, j, _, w in into.latest():
            if (source, j) in self.given:
                said += (-1.0 if self.given[source, j][3] < 0 else 1.0) * w / 10
            weight = 1 + max(self.into[j].above + self.mean, -0.9)
            weights, weighed = weights + weight, weighed + weight * (w / 10)
            surprise += (w - (self.out[j].S - w) / max(self.out[j].c - 1, 1)) / 10
        back, before = self.given.get((target, source)), self.given.get((source, target))
        b, since = (back[3], self.t - back[0]) if back else (0.0, 0.0)
        hour_out, hour_in = out.within(HOUR), into.within(HOUR)
        return [(self.mean / 10 + out.above / 10 + into.above / 10) * 4,
                bool(back), b / 10 * 2, b < 0, days(since),
                bool(before), before[3] / 10 * 2 if before else 0.0,
                L(trusted) / 2, trust / (trusted + 1) * 2, said / (trusted + 1) * 2,
                L(rated) / 2, opinion / (rated + 1) * 2, L(common) / 2, alike / (common + 1) * 2,
                L(judges) / 2, verdicts / (judges + 1) * 2,
                weighed / (weights + 1) * 2, surprise / (min(into.c, LATEST) + 1) * 2,
                out.last / 10 * 2, into.last / 10 * 2,
                L(hour_out[0]) / 2, L(hour_out[1]), L(hour_in[0]) / 2, L(hour_in[1]),
                out.c == 0 and into.c == 0, into.c == 0,
                0.0 if into.c else out.above / 10 * 4, 0.0 if into.c else out.share * 2, out.share * into.share * 4,
                into.last < 0, out.last < 0, self.share * 4, bool(back) and since < DAY, bool(back) and 0 <= b < 2,
                own.c == 0, 0.0 if back else own.above / 10 * 4, min(opinion, 0.0), min(trust, 0.0)]

    def neighbours(self, user):
        into, out = self.lists(user)
        ends = [(row[0], row[1]) for row in into.latest(16)] + [(row[0], row[2]) for row in out.latest(16)]
        ends.sort(key=lambda end: -end[0])  # stable: of one moment first those received, the last of the state first
        return [end.decode() for end in dict.fromkeys(end for _, end in ends)][:8]


T, SEED = 8000000, [1]
USERS = ["u%d" % i for i in range(1, 13)] + ["Z", "a", "é", "zoë"]
WEIGHTS = [1, 2, 2.5, 0.1, -1, 0, 5, -10, 1.7, 10, 1, -0.3, 3, 1]


def draw(items):
    SEED[0] = (SEED[0] * 1103515245 + 12345) % 2**31
    return items[(SEED[0] >> 12) % len(items)]


def ratings():
    made = [("giver", "a", 2.5, T - 3600), ("giver", "bad", -10, T - 9 * DAY), ("giver", "u9", 0.1, T - 7.5),
            ("u9", "giver", 1, T + 1), ("late", "u9", 3, T), ("u9", "mute", -0.3, T - 3601), ("Z", "mute", 0, T - DAY),
            ("r", "q", 1.7, T - 600), ("q", "r", 2.5, T - 900), ("r", "s", -1, T - DAY), ("r", "s", -2, T - DAY),
            ("s", "a", 0, T - DAY - 0.5), ("a", "s", 5, T - 30 * DAY), ("s", "é", -10, T - 31 * DAY),
            ("early", "p", 2, T - 60 * DAY), ("p", "early", -1, T - 59 * DAY), ("early", "u10", 1, T - 50 * DAY)]
    made += [(user, "p", draw(WEIGHTS), T - 40 * DAY + i) for i, user in enumerate(USERS[2:9])]
    made += [("u12", "p", -1, T - 3 * DAY)]  # the 16th from behind: it and the next 15 hide those above
    made += [(USERS[i % 2], "p", draw(WEIGHTS), T - 3 * DAY + 1 + i // 2) for i in range(15)]
    made += [("p", "é", 2, T - 58 * DAY), ("p", "u11", 0.1, T - 57 * DAY)]  # the 17th and the 16th that p gave
    made += [("p", ["u2", "Z"][i % 2], 0.1, T - 2 * DAY + i // 2) for i in range(15)]
    made += [("u%d" % i, "bad", -10, T - 20 * DAY) for i in range(1, 8)]
    made += [("bad", user, 10, T - 19 * DAY + i % 2) for i, user in enumerate(["hub", "zoë", "a", "u3"])]
    for _ in range(220):  # many at one moment, some at T or later, some exactly a day or 30 days before
        quarters = draw(range(20)) ** 2 - draw(range(2))
        source = draw(USERS)
        made.append((source, draw([user for user in USERS if user != source]), draw(WEIGHTS), T - quarters * DAY // 4))
    for k in range(435):  # three at one moment; "early" is among the latest 400 of neither kind
        time = T - 13 * (k - k % 3) ** 2
        made.append(("early" if k > 405 and k % 2 else draw(USERS), "hub", draw(WEIGHTS), time))
        if k < 415:
            made.append(("hub", "early" if k > 405 else draw(USERS), draw(WEIGHTS), time))
    return sorted(sorted({rating for rating in made if rating[3] < T}), key=lambda _: draw(range(2**16)))


PAIRS = ["Z hub", "hub Z", "u10 hub", "p hub", "hub early", "hub p", "p early", "u9 u10", "u10 u9", "é a", "a s", "q r",
         "s r", "bad zoë", "u3 bad", "giver hub", "giver mute", "mute giver", "late hub", "hub nobody", "late nobody"]

if __name__ == "__main__":
    known = ratings()
    state, pairs = State(T, known), []
    for source, target in map(str.split, PAIRS):
        ends = source.encode(), target.encode()
        rows = dict(source_row=state.user(ends[0]), target_row=state.user(ends[1]), pair_row=state.pair(*ends))
        pairs.append(compact(dict(source=source, target=target, neighbours=[state.neighbours(end) for end in ends],
                                  **{name: binary32(*row).hex() for name, row in rows.items()})))
    lines = [compact(known[i:i + 100])[1:-1] for i in range(0, len(known), 100)]
    print('{"time":%d,"ratings":[\n%s],\n"pairs":[\n%s]}' % (T, ",\n".join(lines), ",\n".join(pairs)))
