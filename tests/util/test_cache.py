"""The cache against a slow model: a list of entries, the least used first."""

from hypothesis import given, settings
from hypothesis import strategies as st

from postoffice.util.cache import Cache
from tests.util.test_token_bucket import Time

KEYS = st.sampled_from("abcd")
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, st.integers(0, 4), st.none() | st.integers(1, 5)),
    st.tuples(st.just("change"), KEYS, st.integers(0, 4)),
    st.tuples(st.sampled_from(["get", "pop", "in"]), KEYS),
    st.tuples(st.just("clear")),
    st.tuples(st.just("pass"), st.integers(1, 3)),
)


class Slow:
    """What a cache is, by the book: [key, value, until], the least used first."""

    def __init__(self, most, weigh):
        self.most, self.weigh, self.now, self.entries = most, weigh, 0, []

    def pop(self, key):
        found = [entry for entry in self.entries if entry[0] == key]
        self.entries = [entry for entry in self.entries if entry[0] != key]
        return found[0][1] if found else None

    def put(self, key, value, until):
        self.pop(key)
        self.entries.append((key, value, until))
        while sum(self.weigh(value) for _, value, _ in self.entries) > self.most:
            del self.entries[0]

    def set(self, key, value, seconds):
        self.put(key, value, float("inf") if seconds is None else self.now + seconds)

    def used(self, key):
        entry = next((one for one in self.entries if one[0] == key), None)
        self.pop(key)
        if entry is None or entry[2] <= self.now:
            return None
        self.entries.append(entry)
        return entry

    def get(self, key):
        return (self.used(key) or (key, None))[1]

    def change(self, key, value):
        if entry := self.used(key):
            self.put(key, value, entry[2])

    def clear(self):
        self.entries = []


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=40), st.integers(1, 8), st.booleans())
def test_it_does_what_the_slow_one_does(steps, most, weighed):
    time = Time()
    start = time.now
    cache = Cache(most, time, (lambda value: value) if weighed else None)
    slow = Slow(most, (lambda value: value) if weighed else (lambda value: 1))
    for what, *given_ in steps:
        if what == "pass":
            time.now += given_[0]
            slow.now = time.now - start
        elif what == "in":
            assert (given_[0] in cache) == (slow.used(given_[0]) is not None)
        else:
            assert getattr(cache, what)(*given_) == getattr(slow, what)(*given_)
        assert [(key, value) for key, (_, value) in cache._entries.items()] == [
            (key, value) for key, value, _ in slow.entries
        ]
        assert len(cache) == len(slow.entries)


def test_a_value_that_says_nothing_is_there_too():
    cache = Cache(2)
    cache.set("nobody", None)
    assert "nobody" in cache
    assert cache.get("nobody") is None


def test_what_is_too_heavy_is_not_kept():
    cache = Cache(3, weigh=len)
    cache.set("a", "xx")
    cache.set("b", "xxxx")
    assert len(cache) == 0
    cache.set("a", "xxx")
    assert cache.get("a") == "xxx"
