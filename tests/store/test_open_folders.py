"""Maildrops that stay open for who places: the counts, and which folder it is, stay right."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postoffice.model.address import Quota
from postoffice.model.errors import TemporaryFailure
from postoffice.store import commit, files, names
from postoffice.store.drafts import Draft
from postoffice.store.open_folders import FolderPool, OpenFolders
from postoffice.store.quota import maildirsize, usage_file

LIMIT = Quota(1000, 0, "reject")


@pytest.fixture
def place(tmp_path):
    [place] = files.find([f"{tmp_path}/example.net/joe"])
    return place


@pytest.fixture
def pool():
    pool = FolderPool(10)
    yield pool
    pool.close()


def post(place, pool, octets=b"x\r\n", limit=LIMIT):
    quotas = {place: limit} if limit else {}
    draft = Draft([place], names.new_name("h"), "", quotas, parts=[octets])
    [why] = commit.commit_batch([draft], None, None, pool)
    return why


def counted(place, limit=LIMIT):
    fd = os.open(place.path, os.O_RDONLY)
    try:
        said, there = maildirsize.audit(fd, limit)
        assert said == there
        return said
    finally:
        os.close(fd)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_what_is_open_is_not_opened_again(place, pool, monkeypatch):
    post(place, pool)
    post(place, pool)  # the first had to count: now the count is open, too
    opened = []
    real = os.open

    def spy(path, *args, **named):
        opened.append(os.path.basename(path))
        return real(path, *args, **named)

    monkeypatch.setattr(os, "open", spy)
    assert post(place, pool) is None
    assert [name for name in opened if name in ("joe", "tmp", usage_file.FILE)] == []
    monkeypatch.undo()
    assert counted(place) == (9, 3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.sampled_from(["post", "post", "much", "others", "remove", "recount", "forget", "quota"])
    )
)
def test_whatever_others_do_meanwhile_the_count_is_right(steps, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    [place] = files.find([f"{store}/example.net/joe"])
    folder = os.open(place.path, os.O_RDONLY)
    pool, limit = FolderPool(10), LIMIT
    try:
        for step in steps:
            match step:
                case "post":
                    post(place, pool, limit=limit)
                case "much":
                    post(place, pool, b"x" * 700, limit)
                case "others":
                    with maildirsize.reserving(folder):
                        taken = maildirsize.reserve(folder, limit, [5])
                        if taken is not None and taken[0] == [True]:
                            name = names.new_name("other") + ",S=5"
                            Path(place.path, "new", name).write_bytes(b"x" * 5)
                case "remove":
                    for name in sorted(os.listdir(f"{place.path}/new"))[:1]:
                        size = os.stat(f"{place.path}/new/{name}").st_size
                        with maildirsize.releasing(folder):
                            os.unlink(f"{place.path}/new/{name}")
                            maildirsize.add(folder, -size, -1)
                case "recount":
                    maildirsize.recount(folder, limit)
                case "forget":
                    maildirsize.forget(place.path)
                case "quota":
                    limit = Quota(2000 if limit.octets == 1000 else 1000, 0, "reject")
            there = [path.stat().st_size for path in Path(place.path, "new").iterdir()]
            if (audit := maildirsize.audit(folder, limit)) is not None:
                assert audit[0] == audit[1] == (sum(there), len(there))
    finally:
        os.close(folder)
        pool.close()
        shutil.rmtree(store)


def test_what_is_over_the_quota_is_refused_as_ever(place, pool):
    assert post(place, pool, b"x" * 900) is None
    assert post(place, pool, b"x" * 90) is None
    assert post(place, pool, b"x" * 20).reply.code == 552
    assert counted(place) == (990, 2)


def test_a_maildrop_that_was_taken_away_gets_nothing_and_is_closed(place, pool):
    assert post(place, pool) is None
    before = descriptors()
    shutil.move(place.path, f"{place.path}.gone")
    [another] = files.find([place.path])
    assert isinstance(post(place, pool), TemporaryFailure)
    assert descriptors() < before
    assert os.listdir(f"{place.path}/new") == []
    assert len(os.listdir(f"{place.path}.gone/new")) == 1
    assert post(another, pool) is None
    assert len(os.listdir(f"{place.path}/new")) == 1


@pytest.mark.parametrize("box", ["new", "tmp"])
@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_folder_in_it_that_was_made_anew_is_the_one_that_who_counts_waits_for(
    place, pool, box, how, monkeypatch
):
    for _ in range(2):
        assert post(place, pool) is None
    before = descriptors()
    if how == "removed":
        shutil.rmtree(f"{place.path}/{box}")
    else:
        os.rename(f"{place.path}/{box}", f"{place.path}.{box}")
    os.mkdir(f"{place.path}/{box}")
    free, real = [], os.link

    def link(*args, **named):
        fd = os.open(f"{place.path}/new", os.O_RDONLY)
        free.append(files.try_lock(fd))
        os.close(fd)
        return real(*args, **named)

    monkeypatch.setattr(os, "link", link)
    assert post(place, pool) is None
    assert free == [False]
    [count] = [one._counts[place] for one in pool._free]
    assert count.is_in_place()
    assert descriptors() == before


def test_no_more_stay_open_than_are_kept(tmp_path):
    before = descriptors()
    pool = FolderPool(3)
    for place in files.find([f"{tmp_path}/example.net/u{number}" for number in range(10)]):
        assert post(place, pool) is None
        assert post(place, pool) is None
    assert descriptors() - before == 3 * 4
    pool.close()
    assert descriptors() == before


def test_groups_at_the_same_time_have_each_their_own(pool):
    with pool.borrowed() as one, pool.borrowed() as other:
        assert one is not other
    with pool.borrowed() as again:
        assert again in (one, other)


def test_another_folder_of_that_name_is_not_opened(place):
    folders = OpenFolders()
    shutil.move(place.path, f"{place.path}.gone")
    files.make(place.path)
    with pytest.raises(OSError, match="taken away"):
        folders.open(place)
    folders.trim(0)
