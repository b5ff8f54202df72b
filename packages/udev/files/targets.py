"""Names what must be built for the parts of systemd that are tagged as arguments say, a file a line."""

import json
import os
import sys

folder = os.getcwd()
for files in json.load(sys.stdin).values():
    for path, how in files.items():
        if how.get("tag") in sys.argv[1:] and path.startswith(f"{folder}/"):
            print(os.path.relpath(path, folder))
