"""Reading and writing files: outputs appear whole or not at all, damaged inputs end in one sentence."""

from qvggt.files.folder import (
    check_folder,
    check_space,
    clear_leftovers,
    finish_folder,
    lock_folder,
    new_folder,
    written_files,
)
from qvggt.files.output import new_output
from qvggt.files.write import (
    explain,
    json_text,
    made_parents,
    make_folder,
    new_file,
    private_folder,
    sync,
    system_errors,
    user_cache,
    write_json,
)

__all__ = [
    "check_folder",
    "check_space",
    "clear_leftovers",
    "explain",
    "finish_folder",
    "json_text",
    "lock_folder",
    "made_parents",
    "make_folder",
    "new_file",
    "new_folder",
    "new_output",
    "private_folder",
    "sync",
    "system_errors",
    "user_cache",
    "write_json",
    "written_files",
]
