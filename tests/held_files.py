"""Which files this process holds although they are deleted: each takes as much room on the disk as before."""

from pathlib import Path


def deleted_but_held_below(directory: Path) -> list[str]:
    """Opened or mapped."""
    held = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return [name for name in held if name.startswith(f"{directory}/") and name.endswith(" (deleted)")]
