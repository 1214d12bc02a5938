"""A disk in a file that turns read-only, as a real one does when its kernel finds it broken.

It is an ext4 file system whose kernel is told of an error. What is open for writing stays open, and
every write to it fails; mounting it anew does not undo that, checking and mounting it does.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

BYTES = 60_000_000


@dataclass
class FailingDisk:
    """The file with the disk, and the folder where it is mounted."""

    image: Path
    folder: Path

    def make(self) -> None:
        """Make and mount it; without the means the test is skipped."""
        with self.image.open("wb") as file:
            file.truncate(BYTES)
        self.folder.mkdir()
        try:
            _do("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(self.image))
            self.mount()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or error
            pytest.skip(f"no disk may be made and mounted here: {said}")
        if not self.trigger.exists():
            self.unmount()
            pytest.skip("the kernel has no ext4 errors to ask for")

    @property
    def trigger(self) -> Path:
        """The kernel's file by which it is told of an error."""
        listed = _do("findmnt", "-n", "-o", "SOURCE", str(self.folder))
        return Path("/sys/fs/ext4", Path(listed.strip()).name, "trigger_fs_error")

    def turn_read_only(self) -> None:
        """Let every write fail from now on."""
        self.trigger.write_text("1")

    def fill(self) -> None:
        """Take all its room, to the last byte."""
        size = 1_000_000
        with self.filler.open("wb", buffering=0) as file:
            while size:
                try:
                    file.write(b"0" * size)
                except OSError:
                    size //= 2

    @property
    def filler(self) -> Path:
        """The file that takes the room."""
        return self.folder / "filler"

    def mend(self) -> None:
        """Give it room, check it, and mount it for writing again."""
        self.unmount()
        subprocess.run(["e2fsck", "-fy", str(self.image)], check=False, capture_output=True)
        self.mount()
        self.filler.unlink(missing_ok=True)

    def mount(self) -> None:
        """Mount it for writing."""
        _do("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.folder))

    def unmount(self) -> None:
        """Take it away."""
        _do("umount", str(self.folder))

    def drop(self) -> None:
        """Take it away at the end, whatever still holds it."""
        _do("umount", "--lazy", str(self.folder))


def _do(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
