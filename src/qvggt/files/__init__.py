"""Reading and writing files: outputs appear whole or not at all, damaged inputs end in one sentence."""

from qvggt.files.write import check_folder, explain, make_folder, new_file, new_folder, sync, user_cache, write_json

__all__ = ["check_folder", "explain", "make_folder", "new_file", "new_folder", "sync", "user_cache", "write_json"]
