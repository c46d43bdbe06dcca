"""Writing a file so that what was there is replaced at once, or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary file to write; it takes the place of the target when the block ends well.

    The temporary file stands beside the target, since only within one file system a rename is
    atomic. It is flushed to the disk, renamed, and then the folder's entry is flushed, so that
    after a crash of the program or of the system there is the old file or the new one, whole. If
    the block fails the target stays as it was, and the temporary file is removed.

    Parameters
    ----------
    path : str or path
        The target. A symbolic link is followed, not replaced.

    Yields
    ------
    Path
        An empty file with the permissions of any new file. The block may write it anew.

    Raises
    ------
    OSError
        If the file cannot be written, or the target is there and is no regular file: a rename
        would put a file in the place of a device as /dev/stdout.

    Examples
    --------
    >>> with replacing("notes.txt") as temporary:
    ...     temporary.write_text("all or nothing")
    """
    import secrets

    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "cannot replace what is no regular file", str(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        # A name that cannot be written is the system's own error here. And some libraries make
        # files that nobody else may read; the permissions shall be those of any new file.
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)
        _flush(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # Windows cannot open a folder
        _flush(target.parent)


def remove_remains(path: str | os.PathLike[str]) -> None:
    """Remove temporary files that were left by processes killed inside `replacing`."""
    target = Path(os.path.realpath(path))
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.tmp")
    with suppress(OSError):
        for entry in target.parent.iterdir():
            if pattern.fullmatch(entry.name):
                entry.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
