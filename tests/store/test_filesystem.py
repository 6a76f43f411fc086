"""Which durability a store gets, by its file system and by the system."""

from __future__ import annotations

import builtins
import io
import os
import platform

import pytest

from postoffice.model.errors import StartupError
from postoffice.store.journal import filesystem


@pytest.fixture
def on(monkeypatch):
    """Chooses, on this kind of file system and this system."""

    def on(kind, wanted="", release="6.1.0-13-amd64", system="Linux"):
        monkeypatch.setattr(filesystem, "file_system", lambda path: kind)
        monkeypatch.setattr(platform, "release", lambda: release)
        monkeypatch.setattr(platform, "system", lambda: system)
        return filesystem.choose("/srv/mail", wanted)

    return on


@pytest.mark.parametrize("wanted", ["", "journal"])
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("release", ["5.17.0", "5.17", "5.100.1-rc1", "6.1.0-13-amd64", "10.0.0"])
def test_where_the_journal_is_right_it_is_taken_without_a_word(on, kind, wanted, release):
    assert on(kind, wanted, release) == ("journal", "")


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "overlay", "unknown"])
def test_files_are_right_everywhere(on, kind):
    assert on(kind, "files", "2.6.32") == ("files", "")


ELSEWHERE = ["btrfs", "zfs", "overlay", "nfs4", "cifs", "fuse.sshfs", "tmpfs", "unknown"]


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_elsewhere_files_are_taken_with_a_warning(on, kind):
    durability, warning = on(kind)
    assert durability == "files"
    assert "/srv/mail" in warning
    assert kind in warning


@pytest.mark.parametrize("kind", ["btrfs", "zfs", "tmpfs"])
def test_where_it_is_safe_to_try_the_journal_can_be_asked_for(on, kind):
    durability, warning = on(kind, "journal")
    assert durability == "journal"
    assert "not tested" in warning


@pytest.mark.parametrize("kind", ["overlay", "nfs4", "cifs", "fuse.sshfs", "9p", "unknown"])
def test_where_it_is_known_to_be_wrong_the_journal_is_refused(on, kind):
    with pytest.raises(StartupError, match=f"{kind}.*durability: files"):
        on(kind, "journal")


@pytest.mark.parametrize(
    ("release", "system"),
    [("5.16.20", "Linux"), ("4.19.0", "Linux"), ("odd", "Linux"), ("13.2", "FreeBSD")],
)
def test_a_system_that_hides_errors_gets_no_journal(on, release, system):
    durability, warning = on("ext4", "", release, system)
    assert durability == "files"
    assert release in warning
    for kind in ("ext4", "btrfs"):
        with pytest.raises(StartupError):
            on(kind, "journal", release, system)


# -- mountinfo ------------------------------------------------------------------------


@pytest.fixture
def mounted(monkeypatch):
    """The kind of file system that a path is on, by these lines of mountinfo; or an error."""

    def mounted(path, lines, device=0):
        real = builtins.open

        def fake(name, *args, **named):
            if name != "/proc/self/mountinfo":
                return real(name, *args, **named)
            if isinstance(lines, OSError):
                raise lines
            octets = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
            return io.TextIOWrapper(octets, **named)

        with monkeypatch.context() as patch:
            patch.setattr(builtins, "open", fake)
            patch.setattr(os, "stat", lambda path: os.stat_result([0, 0, device, *[0] * 7]))
            patch.setattr(os.path, "realpath", str)
            return filesystem.file_system(path)

    return mounted


def line(number, mount, kind, root="/", more=""):
    return f"36 35 {number} {root} {mount} rw,noatime {more}- {kind} /dev/x rw"


ROOT = line("8:1", "/", "ext4")


def test_a_device_is_found_wherever_it_is_mounted(mounted):
    lines = [ROOT, line("8:2", "/mnt", "xfs", more="shared:1 master:2 "), line("0:5", "/a", "nfs4")]
    assert mounted("/anywhere", lines, os.makedev(8, 2)) == "xfs"
    assert mounted("/anywhere", lines, os.makedev(0, 5)) == "nfs4"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/mail", "btrfs"),
        ("/srv", "btrfs"),
        ("/srv/mail/deep", "overlay"),
        ("/srv/mail/deep/er", "overlay"),
        ("/srv/mail/deeper", "btrfs"),
        ("/srvx", "ext4"),
        ("/", "ext4"),
        ("/with blank", "zfs"),
        ("/with blank/in it", "zfs"),
        ("/tab\tand\\", "xfs"),
        ("/with", "ext4"),
    ],
)
def test_a_device_without_a_mount_is_found_by_its_path(mounted, path, kind):
    lines = [
        ROOT,
        line("0:40", "/srv/mail/deep", "overlay"),
        line("0:30", "/srv", "btrfs", root="/@srv"),
        line("0:31", r"/with\040blank", "zfs"),
        line("0:32", r"/tab\011and\134", "xfs"),
    ]
    assert mounted(path, lines, os.makedev(0, 99)) == kind


def test_what_was_mounted_last_on_a_place_is_what_is_there(mounted):
    lines = [ROOT, line("8:2", "/srv", "ext4"), line("0:30", "/srv", "btrfs")]
    assert mounted("/srv/mail", lines, os.makedev(0, 99)) == "btrfs"


@pytest.mark.parametrize(
    "name", [r"/a\xa0b", r"/a\u2003-\u2003xfs", r"/a\f-\fxfs", r"/a\rb", r"/a\x85b", "/-"]
)
def test_names_of_mounts_may_hold_whatever_the_system_does_not_escape(mounted, name):
    name = name.encode().decode("unicode_escape")
    lines = [line("8:7", name, "ext4"), line("8:8", "/mnt", "xfs", root="/-")]
    assert mounted("/mnt", lines, os.makedev(8, 8)) == "xfs"
    assert mounted("/mnt", lines, os.makedev(8, 7)) == "ext4"


@pytest.mark.parametrize("lines", [[], FileNotFoundError(2, "no /proc here")])
def test_where_nothing_is_known_it_is_said_so(mounted, lines):
    assert mounted("/srv", lines, os.makedev(8, 1)) == "unknown"


def test_a_real_folder_is_on_something(tmp_path):
    kind = filesystem.file_system(str(tmp_path))
    assert kind
    assert " " not in kind
