"""Which file system a directory stands on, and how much room it has."""

import os
from pathlib import Path

import psutil

NETWORK = frozenset(
    "afpfs afs beegfs ceph cifs davfs glusterfs gpfs lustre ncpfs nfs nfs4 pvfs2 smb2 smb3 smbfs webdav".split()
)
NETWORK_FUSE = frozenset("davfs2 gcsfuse glusterfs goofys mountpoint-s3 rclone s3fs sshfs".split())


def kind(path: Path) -> str:
    """The type of the file system, such as ``ext4`` or ``fuse.sshfs``; empty if the system does not tell."""
    place = os.path.realpath(path)
    best = ("", "")
    for mount in psutil.disk_partitions(all=True):
        inside = place == mount.mountpoint or place.startswith(mount.mountpoint.rstrip("/") + "/")
        # A later mount on the same point hides the earlier one.
        if inside and len(mount.mountpoint) >= len(best[0]):
            best = (mount.mountpoint, mount.fstype)
    return best[1]


def is_network(kind: str) -> bool:
    """Whether SQLite's WAL would fail there: its shared memory does not reach over a network."""
    return kind in NETWORK or kind.removeprefix("fuse.") in NETWORK_FUSE


def free_bytes(path: Path) -> int:
    """What an ordinary user may still write; 0 too where the inodes are used up."""
    room = os.statvfs(path)
    if room.f_files and not room.f_favail:
        return 0
    return room.f_bavail * room.f_frsize
