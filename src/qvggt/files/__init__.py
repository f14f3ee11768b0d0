"""Reading and writing files: outputs appear whole or not at all, damaged inputs end in one sentence."""

from qvggt.files.folder import check_folder, check_space, finish_folder, lock_folder, new_folder
from qvggt.files.write import (
    explain,
    json_text,
    make_folder,
    new_file,
    private_folder,
    remove_temporaries,
    sync,
    user_cache,
    write_json,
)

__all__ = [
    "check_folder",
    "check_space",
    "explain",
    "finish_folder",
    "json_text",
    "lock_folder",
    "make_folder",
    "new_file",
    "new_folder",
    "private_folder",
    "remove_temporaries",
    "sync",
    "user_cache",
    "write_json",
]
